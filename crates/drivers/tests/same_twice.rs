//! A seed is a run: the same one each time, in every thread, in debug and release, on every
//! machine. And a protocol that leaks something else into its run is found out by running it twice.

mod beacon;

use beacon::{Seen, world};
use quorate_core::{Context, NodeId, Protocol, SystemModel};
use quorate_drivers::simulate::{
    Keep, Mutant, Origin, Outcome, Plain, Plan, World, hash_of_text, run,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Digests of runs of the beacons, by model and seed. They change when the simulator draws other
/// choices or does other things for the same seed, and then old seeds mean something else: say so
/// in the notes of the release.
const GOLDEN: [(&str, u64, u64); 3] = [
    ("network=reliable,node=crash-stop,timing=synchronous", 7, 0x4e2c_fe98_a04a_f4af),
    ("network=fair-loss,node=crash-recovery,timing=partial", 7, 0xe6a6_3090_8d40_7ac0),
    ("network=arbitrary,node=byzantine,timing=asynchronous", 7, 0xc48e_d010_a8bb_3814),
];

fn plan(model: &str) -> Plan {
    Plan::of(model.parse().expect("a model")).lasting(Duration::from_secs(3))
}

fn beacons(plan: &Plan, origin: Origin<'_>, keep: Keep) -> Outcome {
    let seen = Rc::new(RefCell::new(Seen::default()));
    run(world(Duration::from_secs(4), &seen), plan, origin, keep)
}

/// The digest of a run, and a hash of every step and every choice.
fn trace(plan: &Plan, seed: u64) -> (u64, u64) {
    let outcome = beacons(plan, Origin::Seed(seed), Keep::Trace);
    (outcome.digest, hash_of_text(&(outcome.steps, outcome.log, outcome.tally)))
}

#[test]
fn a_seed_has_the_digest_that_it_always_had() {
    let digest = |model, seed| beacons(&plan(model), Origin::Seed(seed), Keep::Outcome).digest;
    let now = GOLDEN.map(|(model, seed, _)| (model, seed, digest(model, seed)));
    assert_eq!(now, GOLDEN, "now: {now:#x?}");
}

#[test]
fn the_same_seed_takes_the_same_steps_twice_and_in_other_threads() {
    for (model, ..) in GOLDEN {
        for seed in 0..5 {
            let first = trace(&plan(model), seed);
            assert_eq!(trace(&plan(model), seed), first, "{model}, seed {seed}");
            let others: Vec<_> =
                (0..2).map(|_| std::thread::spawn(move || trace(&plan(model), seed))).collect();
            for other in others {
                assert_eq!(other.join().expect("no panic"), first, "{model}, seed {seed}");
            }
        }
    }
}

#[test]
fn looking_at_a_run_does_not_change_it() {
    for (model, ..) in GOLDEN {
        let unseen = beacons(&plan(model), Origin::Seed(3), Keep::Outcome);
        let seen = beacons(&plan(model), Origin::Seed(3), Keep::Trace);
        assert_eq!((seen.digest, &seen.tally), (unseen.digest, &unseen.tally), "{model}");
    }
}

#[test]
fn the_choices_of_a_run_are_the_run() {
    for (model, ..) in GOLDEN {
        for seed in 0..5 {
            let drawn = beacons(&plan(model), Origin::Seed(seed), Keep::Choices);
            let log = drawn.log.expect("choices were kept");
            let read = beacons(&plan(model), Origin::Log(&log.entries), Keep::Choices);
            assert_eq!(read.digest, drawn.digest, "{model}, seed {seed}");
            assert_eq!(read.log, Some(log), "{model}, seed {seed}");
        }
    }
}

#[test]
fn different_seeds_are_different_runs() {
    let mut digests: Vec<u64> = (0..50)
        .map(|seed| beacons(&plan(GOLDEN[1].0), Origin::Seed(seed), Keep::Outcome).digest)
        .collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 50);
}

#[test]
fn a_generator_that_is_not_seeded_is_noticed() {
    let plan = Plan { mutant: Some(Mutant::Unseeded), ..plan(GOLDEN[1].0) };
    assert_ne!(trace(&plan, 1), trace(&plan, 1));
}

/// What a protocol must not look at.
#[derive(Clone, Copy, Debug)]
enum Leak {
    Nothing,
    WallClock,
    HashOrder,
    Thread,
    Global,
}

/// A node that tells its peers, a few times, what it sees of the world outside.
struct Leaky {
    all: Vec<NodeId>,
    leak: Leak,
    rounds: u64,
}

/// Calls of [`Leaky::look`] in this process.
static CALLS: AtomicU64 = AtomicU64::new(0);

impl Leaky {
    #[expect(clippy::disallowed_methods, reason = "the order of a hash map is the mistake")]
    fn look(&self) -> u64 {
        match self.leak {
            Leak::Nothing => self.rounds,
            Leak::WallClock => Instant::now().elapsed().as_nanos() as u64 ^ since_start(),
            Leak::HashOrder => {
                let map: HashMap<u64, ()> = (0..20).map(|key| (key, ())).collect();
                map.keys().fold(0, |order: u64, key| order.wrapping_mul(31) ^ key)
            }
            Leak::Thread => hash_of_text(&std::thread::current().id()),
            Leak::Global => CALLS.fetch_add(1, Ordering::Relaxed),
        }
    }
}

fn since_start() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

impl Protocol for Leaky {
    type Config = (Vec<NodeId>, Leak);
    type Message = u64;
    type Timer = ();
    type Record = ();
    type Request = ();
    type Indication = ();

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &Self::Config, _records: &mut dyn Iterator<Item = ()>) -> Leaky {
        let (all, leak) = config.clone();
        Leaky { all, leak, rounds: 0 }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Leaky>) {
        cx.set_timer((), Duration::from_millis(100)..Duration::from_millis(200));
    }

    fn on_request(&mut self, (): (), _cx: &mut Context<'_, Leaky>) {}

    fn on_message(&mut self, _from: NodeId, _message: u64, _cx: &mut Context<'_, Leaky>) {}

    fn on_timer(&mut self, (): (), cx: &mut Context<'_, Leaky>) {
        self.rounds += 1;
        let word = self.look();
        let own = cx.id;
        for to in self.all.iter().filter(|to| **to != own) {
            cx.send(*to, word);
        }
        cx.set_timer((), Duration::from_millis(100)..Duration::from_millis(200));
    }
}

/// Digests of the same seed, run here and in another thread.
fn twice(leak: Leak) -> (u64, u64) {
    let once = move || {
        let world = Plain::<Leaky>::new(move |_, all| (all.to_vec(), leak));
        let plan = Plan::of(SystemModel::DATA_CENTRE).lasting(Duration::from_secs(2));
        run(world, &plan, Origin::Seed(1), Keep::Outcome).digest
    };
    (once(), std::thread::spawn(once).join().expect("no panic"))
}

#[test]
fn a_leak_of_wall_clock_hash_order_thread_or_process_is_noticed() {
    let (here, there) = twice(Leak::Nothing);
    assert_eq!(here, there);
    for leak in [Leak::WallClock, Leak::HashOrder, Leak::Thread, Leak::Global] {
        let (here, there) = twice(leak);
        assert_ne!(here, there, "{leak:?} was not noticed");
    }
}

#[test]
fn the_world_of_closures_names_its_marks() {
    let world = Plain::<Leaky>::new(|_, all| (all.to_vec(), Leak::Nothing)).sometimes(&["seen"]);
    assert_eq!(world.marks(), ["seen"]);
}
