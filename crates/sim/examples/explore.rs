#![allow(missing_docs, clippy::print_stdout)]
use quorate_core::*;
use quorate_drivers::simulate::*;
use quorate_protocols::consensus::raft::Raft;
use quorate_sim::raft::RaftWorld;
use std::time::Duration;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let a: u64 = args[1].parse().unwrap();
    let b: u64 = args[2].parse().unwrap();
    let mut model = Raft::MODEL;
    if args.len() > 3 && args[3] != "-" {
        model = args[3].parse().unwrap();
    }
    let plan = Plan::of(model).lasting(Duration::from_secs(5));
    let mut sum = Tally::default();
    let mut by = std::collections::BTreeMap::<String, Vec<u64>>::new();
    let t = std::time::Instant::now();
    for seed in a..b {
        let keep = if b == a + 1 { Keep::Trace } else { Keep::Outcome };
        #[cfg(feature = "mutants")]
        let world = || {
            use quorate_protocols::consensus::raft::Mutant::*;
            let all = [
                AckBeforeDurable,
                VoteWithoutPersisting,
                VoteTwice,
                CommitOldTerms,
                ReadWithoutQuorum,
                ReadBeforeOwnCommit,
                ReadAnswerOfFormerLife,
                DuplicateVotesCounted,
                JointBypassed,
                LearnerCounted,
                PurgedPrevTruncates,
                MendingVotes,
                ReconfigureEarly,
                VoteForAnyLog,
                ForwardTakenTwice,
                RefusedForwardForgotten,
            ];
            match args.get(4) {
                Some(m) => {
                    RaftWorld::with_mutant(*all.iter().find(|x| format!("{x:?}") == *m).unwrap())
                }
                None => RaftWorld::default(),
            }
        };
        #[cfg(not(feature = "mutants"))]
        let world = RaftWorld::default;
        let o = run(world(), &plan, Origin::Seed(seed), keep);
        sum.add(&o.tally);
        if let Some(v) = &o.violation {
            by.entry(v.property.clone()).or_default().push(seed);
            if by[&v.property].len() <= 3 {
                println!("seed {seed} at {} {}: {}", v.at, v.property, v.why);
            }
            if args.len() > 4 {
                break;
            }
        }
        if keep == Keep::Trace {
            for s in o.steps.unwrap() {
                println!(
                    "{:>12.6} n{:?} {:?} <->{:?} m{:?} {} {:?}",
                    s.at as f64 / 1e9,
                    s.node.map(|x| x + 1),
                    s.kind,
                    s.peer.map(|x| x + 1),
                    s.message,
                    s.text,
                    s.state
                );
            }
        }
    }
    for (p, s) in by {
        println!("{p}: {} {:?}", s.len(), &s[..s.len().min(10)]);
    }
    println!("{:?} {:?}", t.elapsed(), sum);
}
