//! No false election through a threefold RTT, through loss, and through disks that hesitate; and
//! the same weather shows false elections where patience does not adapt.

use quorate_drivers::simulate::{Keep, Origin, Plan, Violation, run};
use quorate_protocols::consensus::raft::Mutant;
use quorate_sim::raft::weather::{Disks, LASTS, Weather, WeatherWorld};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// An asynchronous system is one whose links no bound of the simulator's makes faster.
const MODEL: &str = "network=fair-loss,node=crash-recovery,timing=asynchronous";
/// Runs in each weather.
const SEEDS: u64 = 204;
/// Members and round trip, one run of each in turn.
const CLUSTERS: [(usize, u32); 6] = [(3, 1), (3, 10), (3, 50), (5, 1), (5, 10), (5, 50)];
/// The bounds of the timeout that members have if nobody says otherwise. Unit: milliseconds.
const DEFAULT: (u32, u32) = (250, 1_000);
/// So short at the least that only what is measured keeps anybody from an election: a heartbeat
/// every 50 ms.
const SHORT: (u32, u32) = (60, 1_000);
/// Not adaptive, and less than two heartbeats: a link that becomes 50 ms slower is enough.
const FIXED: (u32, u32) = (90, 90);

/// What goes on.
#[derive(Clone, Copy)]
struct Sky {
    factor: u32,
    loss_rate: u64,
    disks: Disks,
}

const STEP: Sky = Sky { factor: 3, loss_rate: 0, disks: Disks::Well };
const LOSS: Sky = Sky { factor: 1, loss_rate: 10_000, disks: Disks::Well };
const SKIES: [Sky; 5] = [
    STEP,
    LOSS,
    Sky { disks: Disks::InBursts, ..STEP },
    Sky { disks: Disks::InBursts, ..LOSS },
    Sky { factor: 3, loss_rate: 10_000, disks: Disks::InBursts },
];

/// One run; the seed also says in which cluster.
fn simulate(sky: Sky, bounds: (u32, u32), mutant: Option<Mutant>, seed: u64) -> Option<Violation> {
    let (members, rtt) = CLUSTERS[(seed % CLUSTERS.len() as u64) as usize];
    let Sky { factor, loss_rate, disks } = sky;
    let (timeout_min, timeout) = (bounds.0 * MS, bounds.1 * MS);
    let weather = Weather { rtt: rtt * MS, factor, loss_rate, disks, timeout_min, timeout };
    let world = WeatherWorld::new(weather);
    let world = mutant.into_iter().fold(world, WeatherWorld::with_mutant);
    let plan = Plan::of(MODEL.parse().expect("a model")).calm().with_nodes(members);
    run(world, &plan.lasting(LASTS), Origin::Seed(seed), Keep::Outcome).violation
}

/// In how many runs somebody elected another leader.
fn false_elections(sky: Sky, bounds: (u32, u32), mutant: Option<Mutant>, seeds: u64) -> u64 {
    let is_false = |violation: &Violation| violation.property == "false-election";
    let runs = (0..seeds).filter_map(|seed| simulate(sky, bounds, mutant, seed));
    runs.filter(is_false).count() as u64
}

#[test]
fn nobody_is_elected_while_the_leader_lives() {
    for (number, sky) in SKIES.into_iter().enumerate() {
        for seed in 0..SEEDS {
            let violation = simulate(sky, DEFAULT, None, seed);
            assert_eq!(violation, None, "sky {number}, seed {seed}");
        }
    }
}

/// Nothing but what was measured keeps them from it.
#[test]
fn nobody_is_elected_where_the_shortest_timeout_is_hardly_a_heartbeat() {
    for (number, sky) in SKIES.into_iter().enumerate() {
        for seed in 0..SEEDS {
            let violation = simulate(sky, SHORT, None, seed);
            assert_eq!(violation, None, "sky {number}, seed {seed}");
        }
    }
}

/// One message of ten is lost.
const STORM: Sky = Sky { factor: 1, loss_rate: 100_000, disks: Disks::Well };

#[test]
fn patience_grows_with_the_storm() {
    for seed in 0..SEEDS {
        let violation = simulate(STORM, SHORT, None, seed);
        assert_eq!(violation, None, "seed {seed}");
    }
}

#[test]
fn a_fixed_timeout_that_is_too_short_takes_the_weather_for_a_failure() {
    for sky in [STEP, STORM] {
        assert!(false_elections(sky, FIXED, None, 48) > 0, "the weather does not show");
    }
}

#[test]
fn patience_that_does_not_adapt_takes_the_storm_for_a_failure() {
    for mutant in [Mutant::PatienceFrozen, Mutant::MarginLeftOut] {
        let wrong = false_elections(STORM, SHORT, Some(mutant), SEEDS);
        assert!(wrong > 0, "{mutant:?} is not caught");
    }
}

/// In how many runs nobody has taken over in time.
fn stuck(disks: Disks, mutant: Option<Mutant>, seeds: u64) -> usize {
    let sky = Sky { factor: 1, loss_rate: 0, disks };
    // Two of three disks may not stand still: with a doomed successor there are five.
    let cluster = if disks == Disks::SuccessorStalls { 3 } else { 0 };
    let run = |seed: u64| simulate(sky, DEFAULT, mutant, seed * 6 + cluster + seed % 3);
    (0..seeds)
        .filter_map(run)
        .inspect(|violation| assert_eq!(violation.property, "hand-over"))
        .count()
}

#[test]
fn a_leader_whose_disk_stands_still_is_followed_by_who_can() {
    for disks in [Disks::LeaderStalls, Disks::SuccessorStalls] {
        assert_eq!(stuck(disks, None, 200), 0, "{disks:?}");
    }
}

#[test]
fn who_campaigns_without_a_disk_keeps_others_from_winning() {
    assert!(stuck(Disks::SuccessorStalls, Some(Mutant::StalledCampaigns), 200) > 0);
}
