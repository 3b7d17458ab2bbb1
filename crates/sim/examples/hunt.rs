//! Hunts every planted bug.
#[cfg(feature = "mutants")]
fn main() {
    use quorate_drivers::simulate::{Keep, Origin};
    use quorate_sim::mutants::CATALOGUE;
    let budget: f64 = std::env::args().nth(1).map_or(10.0, |a| a.parse().unwrap());
    let only: Option<String> = std::env::args().nth(2);
    let mut missed = Vec::new();
    for case in CATALOGUE.iter().filter(|c| only.as_ref().is_none_or(|o| c.name.contains(o.as_str()))) {
        let (subject, plan) = (case.subject(), case.plan());
        let begun = std::time::Instant::now();
        let mut found = None;
        let mut seeds = 0;
        while begun.elapsed().as_secs_f64() < budget {
            let outcome = subject.run(&plan, Origin::Seed(seeds), Keep::Outcome);
            seeds += 1;
            if let Some(v) = outcome.violation { found = Some((v, outcome.tally.size)); break; }
        }
        let t = begun.elapsed().as_secs_f64();
        match &found {
            Some((v, size)) => println!("{:28} {:22} by {:22} seed {:5} {:6.2}s size {size} {}", case.name, case.breaks, v.property, seeds - 1, t, v.why.chars().take(80).collect::<String>()),
            None => { println!("{:28} {:22} MISSED after {seeds} seeds", case.name, case.breaks); missed.push(case.name); }
        }
    }
    println!("{} cases, missed {missed:?}", CATALOGUE.len());
}
#[cfg(not(feature = "mutants"))]
fn main() {}
