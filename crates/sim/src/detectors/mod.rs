//! The failure detectors of the shelf as worlds of the simulator, judged by what the simulator
//! knows.
//!
//! **Problem.** A detector says who has crashed; only the simulator knows who has.
//!
//! **Idea.** One book for all of them ([`Book`]): who is down since when, and when the calm began.
//! What a detector is held to is its class:
//!
//! | property | holds | of whom |
//! |---|---|---|
//! | `completeness` | who has been down for longer than a bound is suspected by everybody who is up | all; eventually perfect ones are asked in the calm only |
//! | `accuracy` | nobody who is up is suspected, ever | the perfect one |
//! | `liveness` | in the calm, some time comes from which on everybody suspects exactly those that are down, for [`STABLE`] | all but quorum ping |
//! | `one-side` | of a clean split at most one side writes, once each node has counted twice in it | quorum ping |
//!
//! A violation of `liveness` is either a crash that nobody notices or mistakes that never end.
//!
//! **Seen sometimes.** Mistakes while the faults last, that are taken back; and quorum ping's trap:
//! two nodes that do not hear each other and both write.
//!
//! **Bounds.** One entry for each node.

mod book;
mod quorum;

use crate::Workload;
use book::{Accuracy, Book};
use quorate_core::{NodeId, Protocol};
use quorate_drivers::simulate::{About, Hands, Nodes, Plain, Site, Subject};
use quorate_protocols::detectors::chen::{self, Chen};
use quorate_protocols::detectors::heartbeat::{self, Growing, Heartbeats, Timeouts};
use quorate_protocols::detectors::jacobson::{self, Pings, PingsConfig};
use quorate_protocols::detectors::perfect::{self, Perfect};
use quorate_protocols::detectors::phi::{self, Phi};
use quorate_protocols::detectors::swim::{self, Swim};
use quorate_protocols::detectors::traffic::{self, Say, Traffic};
use quorate_protocols::detectors::{Estimator, Mutant};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// For so long everybody must be right at a stretch.
pub const STABLE: Duration = Duration::from_secs(10);

/// The properties of the detectors that make mistakes.
pub const PROPERTIES: &[&str] = &["completeness", "crash", "liveness"];
/// Those of the perfect one.
pub const PERFECT_PROPERTIES: &[&str] = &["accuracy", "completeness", "crash", "liveness"];
/// Those of quorum ping.
pub const QUORUM_PROPERTIES: &[&str] = &["one-side", "crash", "liveness"];

/// The workload of those that nobody asks anything.
pub const ALONE: &[Workload] =
    &[Workload { name: "alone", about: "nobody asks anything; nodes watch each other" }];
/// The workload of traffic as heartbeat.
pub const TALK: &[Workload] =
    &[Workload { name: "talk", about: "one pair talks all the time, others in bursts" }];

/// The detectors, by name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// [`perfect`].
    Perfect,
    /// [`heartbeat`] with a growing timeout.
    Heartbeat,
    /// [`chen`].
    Chen,
    /// [`phi`].
    Phi,
    /// [`jacobson`].
    Jacobson,
    /// [`traffic`].
    Traffic,
    /// [`quorate_protocols::detectors::quorum_ping`].
    QuorumPing,
    /// [`swim`].
    Swim,
}

impl Kind {
    /// All of them.
    pub const ALL: &[Kind] = &[
        Kind::Perfect,
        Kind::Heartbeat,
        Kind::Chen,
        Kind::Phi,
        Kind::Jacobson,
        Kind::Traffic,
        Kind::QuorumPing,
        Kind::Swim,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Perfect => "perfect",
            Kind::Heartbeat => "heartbeat",
            Kind::Chen => "chen",
            Kind::Phi => "phi",
            Kind::Jacobson => "jacobson",
            Kind::Traffic => "traffic",
            Kind::QuorumPing => "quorum-ping",
            Kind::Swim => "swim",
        }
    }

    /// What is checked of it.
    pub const fn properties(self) -> &'static [&'static str] {
        match self {
            Kind::Perfect => PERFECT_PROPERTIES,
            Kind::QuorumPing => QUORUM_PROPERTIES,
            _ => PROPERTIES,
        }
    }

    /// What is run, with a bug in it if one is named.
    pub fn subject(self, mutant: Option<Mutant>) -> Box<dyn Subject> {
        match self {
            Kind::Perfect => Box::new(move || perfect(mutant)),
            Kind::Heartbeat => Box::new(move || heartbeat(mutant)),
            Kind::Chen => Box::new(move || chen(mutant)),
            Kind::Phi => Box::new(move || phi(mutant)),
            Kind::Jacobson => Box::new(move || jacobson(mutant)),
            Kind::Traffic => Box::new(move || traffic(mutant)),
            Kind::QuorumPing => Box::new(move || quorum::world(mutant)),
            Kind::Swim => Box::new(move || swim(mutant, swim::Health::Lifeguard)),
        }
    }
}

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// The period of heartbeats.
const EVERY: Duration = ms(100);

/// A world in which the suspects of each node are compared with who is down.
fn watched<P: Protocol + 'static>(
    config: impl Fn(&[NodeId]) -> P::Config + 'static,
    suspects: fn(&P) -> Vec<NodeId>,
    accuracy: Accuracy,
    detected: Duration,
    plant: impl Fn(&mut P) + 'static,
) -> Plain<P>
where
    P::Record: Clone,
{
    busy(config, suspects, accuracy, detected, plant, ms(100), |_, _| {})
}

/// The same, in which somebody does something every so often.
fn busy<P: Protocol + 'static>(
    config: impl Fn(&[NodeId]) -> P::Config + 'static,
    suspects: fn(&P) -> Vec<NodeId>,
    accuracy: Accuracy,
    detected: Duration,
    plant: impl Fn(&mut P) + 'static,
    every: Duration,
    work: fn(&mut Nodes<'_, Plain<P>>, &mut Hands<'_, Plain<P>>),
) -> Plain<P>
where
    P::Record: Clone,
{
    let book = Rc::new(RefCell::new(Book::new(accuracy, detected)));
    let (at_calm, at_turns, at_end, at_work) =
        (Rc::clone(&book), Rc::clone(&book), Rc::clone(&book), book);
    Plain::<P>::new(move |_, all| config(all))
        .each_life(plant)
        .workload(every, move |nodes, hands| {
            at_work.borrow_mut().marks(hands);
            work(nodes, hands);
        })
        .calm(move |_, hands| at_calm.borrow_mut().calm(hands.now()))
        .property("accuracy", {
            let book = Rc::clone(&at_turns);
            move |seen| book.borrow_mut().look(seen, suspects).accuracy()
        })
        .property("completeness", move |_| at_turns.borrow().completeness())
        .recovered(move |seen| at_end.borrow_mut().look(seen, suspects).is_right(seen.now))
        .portrait(move |node| {
            let names: Vec<String> = suspects(node).iter().map(NodeId::to_string).collect();
            [("suspects".to_owned(), names.join(" "))].into_iter().collect()
        })
        .sometimes(&["a crash was suspected", "a mistake was made", "a mistake was taken back"])
}

fn perfect(mutant: Option<Mutant>) -> Plain<Perfect> {
    let config = |all: &[NodeId]| perfect::Config {
        nodes: all.to_vec(),
        delay_max: ms(10),
        step_max: ms(5),
        drift_max: 200,
    };
    // Two waits, and a step.
    let detected = ms(70);
    watched(
        config,
        |node| node.suspects().collect(),
        Accuracy::Strong,
        detected,
        move |node| {
            planted(mutant, |mutant| node.plant(mutant));
        },
    )
}

/// A world of heartbeats around an estimator.
fn beats<E: Estimator + 'static>(
    estimator: E::Config,
    detected: Duration,
    mutant: Option<Mutant>,
) -> Plain<Heartbeats<E>> {
    let config = move |all: &[NodeId]| heartbeat::Config {
        nodes: all.to_vec(),
        every: EVERY,
        estimator: estimator.clone(),
    };
    watched(
        config,
        |node| node.suspects().collect(),
        Accuracy::Eventual,
        detected,
        move |node| {
            planted(mutant, |mutant| node.plant(mutant));
        },
    )
}

fn heartbeat(mutant: Option<Mutant>) -> Plain<Heartbeats<Growing>> {
    let timeouts = Timeouts { initial: ms(102), timeout_max: ms(4_000) };
    beats(timeouts, ms(5_000), mutant)
}

fn chen(mutant: Option<Mutant>) -> Plain<Heartbeats<Chen>> {
    let config = chen::Config { every: EVERY, margin: ms(150), window: 32, first: ms(500) };
    beats(config, ms(1_000), mutant)
}

fn phi(mutant: Option<Mutant>) -> Plain<Heartbeats<Phi>> {
    let config = phi::Config {
        threshold: 8_000,
        window: 100,
        deviation_min: ms(10),
        interval_max: ms(400),
        first: EVERY,
    };
    beats(config, ms(2_500), mutant)
}

fn jacobson(mutant: Option<Mutant>) -> Plain<Pings> {
    let round_trips = jacobson::Config {
        first: ms(1_000),
        timeout_min: ms(30),
        timeout_max: ms(2_000),
        factor: 400,
    };
    let config = move |all: &[NodeId]| PingsConfig {
        nodes: all.to_vec(),
        every: EVERY,
        misses: 1,
        round_trips,
    };
    watched(
        config,
        |node| node.suspects().collect(),
        Accuracy::Eventual,
        ms(3_000),
        move |node| {
            planted(mutant, |mutant| node.plant(mutant));
        },
    )
}

/// SWIM of 2002, or with Lifeguard.
pub fn swim(mutant: Option<Mutant>, health: swim::Health) -> Plain<Swim> {
    let config = move |all: &[NodeId]| swim::Config {
        nodes: all.to_vec(),
        every: ms(200),
        ping_timeout: ms(60),
        indirect: 2,
        suspicion: ms(600),
        health,
    };
    watched(
        config,
        |node| node.suspects().collect(),
        Accuracy::Eventual,
        ms(25_000),
        move |node| {
            planted(mutant, |mutant| node.plant(mutant));
        },
    )
}

fn traffic(mutant: Option<Mutant>) -> Plain<Traffic> {
    let config = |all: &[NodeId]| traffic::Config {
        nodes: all.to_vec(),
        idle: EVERY,
        margin: ms(150),
        margin_max: ms(3_000),
    };
    let suspects = |node: &Traffic| node.suspects().collect();
    let plant = move |node: &mut Traffic| planted(mutant, |mutant| node.plant(mutant));
    busy(config, suspects, Accuracy::Eventual, ms(4_000), plant, ms(20), talk)
}

/// The first node talks to the second all the time, and now and then somebody has much to say.
fn talk(nodes: &mut Nodes<'_, Plain<Traffic>>, hands: &mut Hands<'_, Plain<Traffic>>) {
    hands.request(0, Duration::ZERO, Say { to: NodeId(2), data: 0 });
    if hands.chance(Site::new(About::Client, 0), 20_000) {
        let count = nodes.len() as u64;
        let from = hands.draw(Site::new(About::Client, 1), count);
        let to = (from + 1 + hands.draw(Site::new(About::Client, 2), count - 1)) % count;
        for number in 0..30 {
            let say = Say { to: NodeId(to + 1), data: number };
            hands.request(from as usize, ms(3 * number), say);
        }
    }
}

fn planted(mutant: Option<Mutant>, mut plant: impl FnMut(Mutant)) {
    mutant.into_iter().for_each(&mut plant);
}
