//! The simulator does not do what the model of a run forbids, and does all that it allows: judged
//! from outside, for each of the 27 system models.
//!
//! The auditor trusts nothing that the simulator says about its faults. It looks at what beacons
//! (see `beacon`) saw and sent, and at when messages left and arrived, nodes crashed and returned.
//! Then the other way round: over a few dozen runs, each fault that the model permits must have
//! happened, and the bounds that it grants must have been nearly reached.

mod beacon;

use beacon::{BEAT, Seen, Told, world};
use quorate_core::{Network, NodeFaults, NodeId, SystemModel, Timing};
use quorate_drivers::simulate::trace::{Kind, Step};
use quorate_drivers::simulate::{Fault, Keep, Mutant, Origin, Plan, Tally, run};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
/// Faults last so long in each run.
const SAFETY: u64 = 6 * SECOND;
/// Runs of each system model, at most; fewer if everything has been seen.
const RUNS: u64 = 400;

fn all_models() -> Vec<SystemModel> {
    let mut models = Vec::new();
    for network in [Network::Reliable, Network::FairLoss, Network::Arbitrary] {
        for node in [NodeFaults::CrashStop, NodeFaults::CrashRecovery, NodeFaults::Byzantine] {
            for timing in [Timing::Synchronous, Timing::PartiallySynchronous, Timing::Asynchronous]
            {
                models.push(SystemModel { network, node, timing });
            }
        }
    }
    models
}

fn plan(model: SystemModel) -> Plan {
    let mut plan = Plan::of(model).lasting(Duration::from_nanos(SAFETY));
    plan.liveness = 60 * SECOND;
    plan
}

/// When the run ends: when all that is late must have arrived.
fn end(model: SystemModel) -> u64 {
    // In an asynchronous system starvation may last half a minute beyond all other faults.
    let more = if model.timing == Timing::Asynchronous { 40 } else { 4 };
    SAFETY + more * SECOND
}

/// A message, as the trace tells of it.
#[derive(Debug)]
struct Flight {
    from: usize,
    to: usize,
    sent: u64,
    received: Vec<u64>,
}

/// The bounds of a run: how long a message takes, how long a step, and since when that is so.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    delay: u64,
    step: u64,
    since: u64,
    /// How far clocks may be off. Unit: parts per thousand million.
    drift: u64,
}

/// What a campaign has seen of what it should see.
#[derive(Debug, Default)]
struct Coverage {
    tally: Tally,
    seen: BTreeSet<&'static str>,
    /// The longest delay.
    delay_max: u64,
}

/// One run, as the auditor has it before it.
struct Audit<'a> {
    model: SystemModel,
    steps: &'a [Step],
    seen: &'a Seen,
    flights: BTreeMap<u64, Flight>,
    /// For each node: when it was up.
    up: Vec<Vec<(u64, u64)>>,
    bounds: Option<Bounds>,
    complaints: Vec<String>,
    coverage: &'a mut Coverage,
}

impl<'a> Audit<'a> {
    fn new(
        plan: &Plan,
        steps: &'a [Step],
        seen: &'a Seen,
        coverage: &'a mut Coverage,
    ) -> Audit<'a> {
        let mut audit = Audit {
            model: plan.model,
            steps,
            seen,
            flights: BTreeMap::new(),
            up: vec![Vec::new(); seen.correct.len()],
            bounds: None,
            complaints: Vec::new(),
            coverage,
        };
        audit.bounds = audit.find_bounds(plan);
        audit.read_flights();
        audit.read_lives();
        audit
    }

    fn complain(&mut self, what: impl Into<String>) {
        self.complaints.push(what.into());
    }

    fn is_correct(&self, node: usize) -> bool {
        self.seen.correct[node]
    }

    fn nodes(&self) -> usize {
        self.seen.correct.len()
    }

    /// What must hold in this run, and from when on.
    fn find_bounds(&mut self, plan: &Plan) -> Option<Bounds> {
        let always = self.steps.iter().find(|step| step.text.starts_with("bounds hold always"));
        let known = Bounds {
            delay: plan.bounds.delay_max,
            step: plan.bounds.step_max,
            since: 0,
            drift: plan.bounds.drift as u64,
        };
        match (self.model.timing, always) {
            (Timing::Synchronous, _) => Some(known),
            (Timing::Asynchronous, _) => None,
            (Timing::PartiallySynchronous, None) => {
                self.coverage.seen.insert("bounds that come to hold");
                Some(Bounds { step: 0, since: SAFETY, ..known })
            }
            (Timing::PartiallySynchronous, Some(note)) => {
                self.coverage.seen.insert("bounds that are not known");
                let words = note.text.split_whitespace();
                let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
                let (delay, step) = (numbers[0] * MILLISECOND, numbers[1] * MILLISECOND);
                Some(Bounds { delay, step, since: 0, drift: 50_000_000 })
            }
        }
    }

    fn read_flights(&mut self) {
        for step in self.steps {
            let (Some(node), Some(peer), Some(id)) = (step.node, step.peer, step.message) else {
                continue;
            };
            match step.kind {
                Kind::Send => {
                    let (from, to, sent) = (node, peer, step.at);
                    self.flights.insert(id, Flight { from, to, sent, received: Vec::new() });
                }
                Kind::Receive => match self.flights.get_mut(&id) {
                    Some(flight) => flight.received.push(step.at),
                    None => self.complaints.push(format!("message {id} was never sent")),
                },
                _ => {}
            }
        }
    }

    fn read_lives(&mut self) {
        let mut born: Vec<Option<u64>> = vec![None; self.nodes()];
        for step in self.steps {
            match (step.kind, step.node) {
                (Kind::Boot, Some(node)) => born[node] = born[node].or(Some(step.at)),
                (Kind::Crash, Some(node)) => {
                    self.up[node].extend(born[node].take().map(|from| (from, step.at)));
                }
                _ => {}
            }
        }
        for (node, from) in born.into_iter().enumerate() {
            self.up[node].extend(from.map(|from| (from, u64::MAX)));
        }
    }

    /// True if the node is up from `at` to the end.
    fn stays_up(&self, node: usize, at: u64) -> bool {
        self.up[node].last().is_some_and(|(from, to)| *from <= at && *to == u64::MAX)
    }

    /// True if the node did not crash in between.
    fn is_one_life(&self, node: usize, before: u64, now: u64) -> bool {
        self.up[node].iter().any(|(from, to)| *from <= before && now <= *to)
    }

    fn judge(mut self) -> Vec<String> {
        self.judge_flights();
        self.judge_partitions();
        self.judge_contents();
        self.judge_clocks();
        self.judge_lives();
        self.judge_memory();
        self.complaints
    }

    /// Loss, doubling, delay.
    fn judge_flights(&mut self) {
        let reliable = self.model.network == Network::Reliable;
        let flights = std::mem::take(&mut self.flights);
        let mut last: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for (id, flight) in &flights {
            let Flight { from, to, sent, received } = flight;
            if !self.is_correct(*from) || !self.is_correct(*to) {
                continue;
            }
            let most = if reliable { 1 } else { 2 };
            if received.len() > most {
                self.complain(format!("message {id} arrived {} times", received.len()));
            }
            // After the faults nothing is lost in any network.
            let must_arrive = reliable || *sent >= SAFETY;
            if received.is_empty() && must_arrive && self.stays_up(*to, *sent) {
                self.complain(format!("message {id} of {sent} from {from} to {to} was lost"));
            }
            if received.is_empty() && self.stays_up(*to, *sent) {
                self.coverage.seen.insert("loss");
            }
            if received.len() == 2 {
                self.coverage.seen.insert("doubling");
            }
            for at in received {
                self.judge_delay(*id, *sent, *at);
                if last.insert((*from, *to), *at).is_some_and(|before| before > *at) {
                    self.coverage.seen.insert("overtaking");
                }
            }
        }
        self.flights = flights;
    }

    fn judge_delay(&mut self, id: u64, sent: u64, at: u64) {
        self.coverage.delay_max = self.coverage.delay_max.max(at - sent);
        let Some(Bounds { delay, step, since, .. }) = self.bounds else { return };
        let latest = sent.max(since) + delay + step;
        if at > latest {
            self.complain(format!("message {id} of {sent} arrived at {at}, after {latest}"));
        }
    }

    /// What a partition cuts does not arrive while it lasts.
    fn judge_partitions(&mut self) {
        let lossy = self.model.network > Network::Reliable;
        let mut begun: BTreeMap<u64, (u64, BTreeSet<(usize, usize)>)> = BTreeMap::new();
        let mut cuts = Vec::new();
        for step in self.steps {
            let Some(fault) = step.fault else { continue };
            if step.kind == Kind::Heal {
                cuts.extend(begun.remove(&fault).map(|(from, pairs)| (from, step.at, pairs)));
                continue;
            }
            let pairs = step.text.split_once(": ").map_or(BTreeSet::new(), |(_, t)| pairs(t));
            begun.insert(fault, (step.at, pairs));
        }
        for (from, until, pairs) in cuts {
            let crosses = |flight: &&Flight| pairs.contains(&(flight.from, flight.to));
            let passes = |flight: &&Flight| {
                flight.received.iter().any(|at| match lossy {
                    true => from < *at && *at < until,
                    false => from < flight.sent && *at < until,
                })
            };
            let leaks = self.flights.values().filter(crosses).filter(passes).count();
            if leaks > 0 {
                self.complain(format!("{leaks} messages crossed a partition of {from}..{until}"));
            }
        }
    }

    /// Corruption, forgery, replay, equivocation: by what the messages say of themselves.
    fn judge_contents(&mut self) {
        let seen = self.seen;
        let mut sent = BTreeSet::new();
        for (node, told) in seen.told.iter().enumerate() {
            for (_, told) in told {
                if let Told::Beat { born, number, .. } = told {
                    sent.insert((node, *born, *number));
                }
            }
        }
        let mut coins = BTreeMap::new();
        let mut heard = BTreeSet::new();
        for (node, told) in seen.told.iter().enumerate() {
            for (at, told) in told {
                let Told::Heard { sender, message, .. } = told else { continue };
                let from = place(*sender);
                let honest = self.model.network < Network::Arbitrary && self.is_correct(from);
                let key = (from, message.born, message.number);
                let mut flaws = Vec::new();
                if message.from != *sender {
                    flaws.push("forgery");
                } else if !message.is_intact() {
                    flaws.push("corruption");
                } else {
                    if *coins.entry(key).or_insert(message.coin) != message.coin {
                        flaws.push("equivocation");
                    }
                    if self.is_correct(from) && !sent.contains(&key) {
                        flaws.push("invention");
                    }
                    if !heard.insert((node, key)) && self.model.network == Network::Reliable {
                        flaws.push("replay");
                    }
                }
                for flaw in flaws {
                    self.coverage.seen.insert(flaw);
                    if honest {
                        self.complain(format!("{flaw} from {sender} at {at}: {message:?}"));
                    }
                }
            }
        }
    }

    /// Clocks never run backwards; where bounds hold, they run well, and alarms go off in time.
    fn judge_clocks(&mut self) {
        let seen = self.seen;
        for (node, told) in seen.told.iter().enumerate().filter(|(node, _)| seen.correct[*node]) {
            for pair in told.windows(2) {
                let ((before, one), (now, other)) = (&pair[0], &pair[1]);
                // The clock of a machine that lost its power begins anew.
                if !self.is_one_life(node, *before, *now) {
                    continue;
                }
                let passed = now - before;
                let Some(ran) = other.local().checked_sub(one.local()) else {
                    self.complain(format!("the clock of {node} ran backwards at {now}"));
                    continue;
                };
                let Some(bounds) = self.bounds.filter(|bounds| *before >= bounds.since) else {
                    continue;
                };
                let most = (u128::from(passed) * u128::from(bounds.drift) / 1_000_000_000) as u64;
                if ran.abs_diff(passed) > most + 2 {
                    let what = format!("in {passed} ns the clock of {node} ran {ran}, at {now}");
                    self.complain(what);
                }
            }
            self.judge_beats(node, told);
        }
    }

    fn judge_beats(&mut self, node: usize, told: &[(u64, Told)]) {
        let beats: Vec<(u64, u64, u64)> = told
            .iter()
            .filter_map(|(at, told)| match told {
                Told::Beat { born, local, .. } => Some((*at, *born, *local)),
                _ => None,
            })
            .collect();
        // Two at once, so every second one is the next.
        for triple in beats.windows(3).filter(|triple| triple[0].1 == triple[2].1) {
            let ((before, _, early), (now, _, late)) = (triple[0], triple[2]);
            if !self.is_one_life(node, before, now) {
                continue;
            }
            if late - early < BEAT.start.as_nanos() as u64 {
                self.complain(format!("an alarm of {node} went off too early, at {now}"));
            }
            let Some(bounds) = self.bounds.filter(|bounds| before >= bounds.since) else {
                continue;
            };
            let beat = BEAT.end.as_nanos() as u64;
            let latest = before + beat + beat / 10 + bounds.step;
            if now > latest {
                self.complain(format!("an alarm of {node} went off at {now}, not by {latest}"));
            }
        }
    }

    /// Who dies, who returns, who lies.
    fn judge_lives(&mut self) {
        let nodes = self.nodes();
        let lives: Vec<usize> = self.up.iter().map(Vec::len).collect();
        if self.model.node == NodeFaults::CrashStop && lives.iter().any(|lives| *lives > 1) {
            self.complain("a node returned from its death");
        }
        if lives.iter().any(|lives| *lives > 1) {
            self.coverage.seen.insert("return");
        }
        let liars = self.seen.correct.iter().filter(|correct| !**correct).count();
        let liars_max = match self.model.node {
            NodeFaults::Byzantine => (nodes - 1) / 3,
            NodeFaults::CrashStop | NodeFaults::CrashRecovery => 0,
        };
        if liars > liars_max {
            self.complain(format!("{liars} of {nodes} nodes are Byzantine"));
        }
        let down = |node: &usize| !self.stays_up(*node, SAFETY + SECOND);
        let faulty = (0..nodes).filter(|node| down(node) || !self.is_correct(*node)).count();
        let faulty_max = match self.model.node {
            NodeFaults::Byzantine => (nodes - 1) / 3,
            NodeFaults::CrashStop | NodeFaults::CrashRecovery => (nodes - 1) / 2,
        };
        if faulty > faulty_max {
            self.complain(format!("{faulty} of {nodes} nodes are faulty in the end"));
        }
    }

    /// What was claimed to be durable is there in the next life; what was not may be lost.
    fn judge_memory(&mut self) {
        let seen = self.seen;
        let mut claimed = vec![Vec::new(); self.nodes()];
        for told in &seen.told {
            for (at, told) in told {
                if let Told::Heard { sender, message, .. } = told
                    && message.is_intact()
                    && message.from == *sender
                    && message.durable
                {
                    claimed[place(*sender)].push((*at, message.number));
                }
            }
        }
        for (node, told) in seen.told.iter().enumerate().filter(|(node, _)| seen.correct[*node]) {
            let mut written = 0;
            for (at, told) in told {
                match told {
                    Told::Beat { number, .. } => written = *number,
                    Told::Started { restored, .. } => {
                        if *restored < written {
                            self.coverage.seen.insert("a write that was not synced is lost");
                        }
                        let before = claimed[node].iter().filter(|(heard, _)| heard < at);
                        if let Some((_, lost)) = before.max_by_key(|(_, number)| *number)
                            && lost > restored
                        {
                            self.complain(format!("{node} claimed {lost} and forgot it, at {at}"));
                        }
                    }
                    Told::Heard { .. } => {}
                }
            }
        }
    }
}

/// The place of a node in the run.
fn place(id: NodeId) -> usize {
    id.0 as usize - 1
}

/// The directed pairs that a description of a partition names.
fn pairs(text: &str) -> BTreeSet<(usize, usize)> {
    let mut pairs = BTreeSet::new();
    for part in text.split(", ") {
        let words: Vec<&str> = part.split(' ').collect();
        let node = |word: &str| word.strip_prefix('n')?.parse::<usize>().ok()?.checked_sub(1);
        let [one, how, other] = words[..] else { continue };
        let (Some(one), Some(other)) = (node(one), node(other)) else { continue };
        match how {
            "x" => pairs.extend([(one, other), (other, one)]),
            "-x->" => pairs.extend([(one, other)]),
            _ => {}
        }
    }
    pairs
}

/// Runs one seed and returns what the auditor complains about.
fn audit(plan: &Plan, seed: u64, coverage: &mut Coverage) -> Vec<String> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let end = end(plan.model);
    let world = world(Duration::from_nanos(end), &seen);
    let outcome = run(world, plan, Origin::Seed(seed), Keep::Trace);
    coverage.tally.add(&outcome.tally);
    let mut complaints: Vec<String> = Vec::new();
    complaints.extend(outcome.violation.map(|violation| format!("{violation:?}")));
    let permitted: Vec<&str> =
        Fault::of_model(&plan.model).iter().map(|fault| fault.name()).collect();
    let forbidden = outcome.tally.faults.keys().filter(|name| !permitted.contains(&name.as_str()));
    complaints.extend(forbidden.map(|name| format!("'{name}' is forbidden and was injected")));
    let steps = outcome.steps.expect("a trace was kept");
    let seen = seen.borrow();
    complaints.extend(Audit::new(plan, &steps, &seen, coverage).judge());
    complaints
}

/// What a campaign under this model must have seen.
fn wanted(model: &SystemModel) -> Vec<&'static str> {
    let mut wanted = vec!["overtaking"];
    if model.network >= Network::FairLoss {
        wanted.extend(["loss", "doubling"]);
    }
    if model.network == Network::Arbitrary {
        wanted.extend(["corruption", "forgery"]);
    }
    if model.node >= NodeFaults::CrashRecovery {
        wanted.extend(["return", "a write that was not synced is lost"]);
    }
    if model.node == NodeFaults::Byzantine {
        wanted.extend(["corruption", "equivocation"]);
    }
    if model.timing == Timing::PartiallySynchronous {
        wanted.extend(["bounds that come to hold", "bounds that are not known"]);
    }
    wanted
}

/// What has not been seen yet.
fn missing(model: &SystemModel, coverage: &Coverage) -> Vec<String> {
    let names = Fault::of_model(model).into_iter().map(Fault::name);
    let faults = names.filter(|name| !coverage.tally.faults.contains_key(*name));
    let sights = wanted(model).into_iter().filter(|what| !coverage.seen.contains(what));
    let mut missing: Vec<String> = faults.chain(sights).map(str::to_owned).collect();
    let delay = match model.timing {
        Timing::Synchronous => 9 * MILLISECOND,
        Timing::PartiallySynchronous => SECOND,
        Timing::Asynchronous => 20 * SECOND,
    };
    if coverage.delay_max < delay {
        missing.push(format!("a delay of {delay} ns; the longest was {}", coverage.delay_max));
    }
    missing
}

/// Runs until everything has been seen, and a few more; the first complaint ends it.
fn campaign(plan: &Plan) -> Result<(), String> {
    let mut coverage = Coverage::default();
    for seed in 0..RUNS {
        let complaints = audit(plan, seed, &mut coverage);
        if !complaints.is_empty() {
            let first: Vec<&str> = complaints.iter().take(5).map(String::as_str).collect();
            let (first, count) = (first.join("; "), complaints.len());
            return Err(format!("{}: seed {seed}: {count} complaints: {first}", plan.model));
        }
        if seed >= 40 && missing(&plan.model, &coverage).is_empty() {
            return Ok(());
        }
    }
    let missing = missing(&plan.model, &coverage);
    Err(format!("{}: never seen in {RUNS} runs: {missing:?}", plan.model))
}

fn audit_all_with(network: Network) {
    let complaints: Vec<String> = all_models()
        .into_iter()
        .filter(|model| model.network == network)
        .filter_map(|model| campaign(&plan(model)).err())
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_reliable_network_does_all_that_it_may_and_no_more() {
    audit_all_with(Network::Reliable);
}

#[test]
fn a_fair_lossy_network_does_all_that_it_may_and_no_more() {
    audit_all_with(Network::FairLoss);
}

#[test]
fn an_arbitrary_network_does_all_that_it_may_and_no_more() {
    audit_all_with(Network::Arbitrary);
}

/// True if a power cut takes what was not synced, now and then. With no other fault, nothing else
/// can take it: syncs are faster than beats.
fn power_cuts_lose_writes(mutant: Option<Mutant>, runs: u64) -> bool {
    let plan = plan(SystemModel::DATA_CENTRE).with_faults(&[Fault::Crash]).expect("permitted");
    let plan = Plan { all: true, mutant, ..plan };
    let mut coverage = Coverage::default();
    (0..runs).any(|seed| {
        let complaints = audit(&plan, seed, &mut coverage);
        assert!(complaints.is_empty(), "seed {seed}: {complaints:?}");
        coverage.seen.contains("a write that was not synced is lost")
    })
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_one_that_never_does_is_noticed() {
    assert!(power_cuts_lose_writes(None, RUNS));
    assert!(!power_cuts_lose_writes(Some(Mutant::CrashKeepsUnsynced), RUNS / 2));
}

#[test]
fn every_mistake_of_a_simulator_is_noticed() {
    let reliable = "network=reliable,node=crash-stop,timing=synchronous";
    let centre = "network=fair-loss,node=crash-recovery,timing=partial";
    let adverse = "network=reliable,node=crash-recovery,timing=asynchronous";
    let mutants = [
        (Mutant::PartitionLeaks, centre, "crossed a partition"),
        (Mutant::DuplicatesInReliable, reliable, "arrived 2 times"),
        (Mutant::ClockRunsBackwards, centre, "ran backwards"),
        (Mutant::LateInSynchrony, reliable, "arrived at"),
        (Mutant::ReturnsFromDeath, reliable, "returned from its death"),
        (Mutant::StarvesForEver, adverse, "was lost"),
        (Mutant::TraitorsAmongHonest, centre, "are Byzantine"),
        (Mutant::NeverStabilizes, centre, "after"),
    ];
    let mut escaped = Vec::new();
    for (mutant, model, words) in mutants {
        let model = model.parse().expect("a model");
        let plan = Plan { mutant: Some(mutant), ..plan(model) };
        match campaign(&plan) {
            Err(complaint) if complaint.contains(words) => {}
            other => escaped.push((mutant, other)),
        }
    }
    assert!(escaped.is_empty(), "not noticed, or for another reason: {escaped:#?}");
}
