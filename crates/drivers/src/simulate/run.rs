//! One run, from a plan and a source of choices to an outcome.

use super::choices::{Choice, ChoiceLog, Choices};
use super::faults::Fault;
use super::kernel::Kernel;
use super::mutant::Mutant;
use super::network::Links;
use super::recorder::Recorder;
use super::tally::Tally;
use super::trace::{Head, Kind, Step, TRACE_VERSION, Trace};
use super::world::{Broken, World};
use quorate_core::{SystemModel, Timing};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The verdict on a run that was ended because it had too many events: nothing is known of what it
/// would have come to. A protocol whose messages beget ever more messages ends so, and one that
/// does something again and again in no time.
pub const UNDECIDED: &str = "undecided";

/// Events of a run, at most: so many, and so many for each second that it may take. The services
/// here have some thousands in a second.
const EVENTS_MAX: u64 = 1_000_000;
const EVENTS_PER_SECOND_MAX: u64 = 50_000;

/// What a system model leaves to be given in numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// A message takes at most so long while bounds hold. Unit: nanoseconds.
    pub delay_max: u64,
    /// A step of a node takes at most so long while bounds hold. Unit: nanoseconds.
    pub step_max: u64,
    /// A clock runs at most so much too fast or too slow, unless it is broken. Unit: parts per
    /// thousand million; 200,000 is 6 ms in half a minute.
    pub drift: i64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { delay_max: 10_000_000, step_max: 5_000_000, drift: 200_000 }
    }
}

/// Whether something may happen in a run at all; if it may, each run draws whether it does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// It may.
    On,
    /// It does not.
    Off,
}

impl std::fmt::Display for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Switch::On => "on",
            Switch::Off => "off",
        })
    }
}

/// What a run may be like; its choices say what it is like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the network, the nodes and time may do.
    pub model: SystemModel,
    /// Kinds of faults that may take part. Those that the model forbids never do.
    pub faults: Vec<Fault>,
    /// All of them take part in each run, instead of a third.
    pub all: bool,
    /// How many nodes there may be; the first is the simplest.
    pub nodes: Vec<usize>,
    /// Faults happen for so long. Unit: nanoseconds.
    pub safety: u64,
    /// After the last of them the system must serve again within so long. Unit: nanoseconds.
    pub liveness: u64,
    /// The numbers of the model.
    pub bounds: Bounds,
    /// Whether our own code may take its rare paths on purpose.
    pub buggify: Switch,
    /// How links behave when nothing is wrong with them; drawn if this is left open.
    pub links: Option<Links>,
    /// A mistake of the simulator itself.
    #[cfg(any(test, feature = "mutants"))]
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// All faults of a model, among three to five nodes (four to seven if they may be Byzantine),
    /// for ten seconds.
    pub fn of(model: SystemModel) -> Plan {
        let byzantine = model.node == quorate_core::NodeFaults::Byzantine;
        Plan {
            model,
            faults: Fault::of_model(&model),
            all: false,
            nodes: if byzantine { vec![4, 5, 7] } else { vec![3, 5, 4] },
            safety: Duration::from_secs(10).as_nanos() as u64,
            liveness: Duration::from_secs(60).as_nanos() as u64,
            bounds: Bounds::default(),
            buggify: Switch::On,
            links: None,
            #[cfg(any(test, feature = "mutants"))]
            mutant: None,
        }
    }

    /// Without any fault, and on the usual paths of the code only.
    #[must_use]
    pub fn calm(mut self) -> Plan {
        self.faults.clear();
        self.buggify = Switch::Off;
        self
    }

    /// With rare paths, or without.
    #[must_use]
    pub fn with_buggify(mut self, buggify: Switch) -> Plan {
        self.buggify = buggify;
        self
    }

    /// With these faults only.
    ///
    /// Errors: the first of them that the model forbids.
    pub fn with_faults(mut self, faults: &[Fault]) -> Result<Plan, Forbidden> {
        if let Some(fault) = faults.iter().find(|fault| !fault.permitted(&self.model)) {
            return Err(Forbidden { fault: *fault, model: self.model });
        }
        self.faults = faults.to_vec();
        Ok(self)
    }

    /// With so many nodes.
    #[must_use]
    pub fn with_nodes(mut self, nodes: usize) -> Plan {
        self.nodes = vec![nodes];
        self
    }

    /// With faults for so long.
    #[must_use]
    pub fn lasting(mut self, safety: Duration) -> Plan {
        self.safety = safety.as_nanos() as u64;
        self
    }

    /// With links that behave like this as long as nothing is wrong with them.
    ///
    /// No delay is longer than the bound of a run in which one holds, whatever is asked for here.
    #[must_use]
    pub fn with_links(mut self, links: Links) -> Plan {
        self.links = Some(links);
        self
    }

    pub(super) fn planted(&self, mutant: Mutant) -> bool {
        #[cfg(any(test, feature = "mutants"))]
        return self.mutant == Some(mutant);
        #[cfg(not(any(test, feature = "mutants")))]
        {
            let _ = mutant;
            false
        }
    }

    /// A run that has had so many events is ended: see [`UNDECIDED`].
    pub fn events_max(&self) -> u64 {
        let seconds = self.safety.saturating_add(self.liveness) / 1_000_000_000;
        EVENTS_MAX.saturating_add(seconds.saturating_mul(EVENTS_PER_SECOND_MAX))
    }

    /// True if progress can be demanded: an asynchronous system promises none (Fischer, Lynch and
    /// Paterson 1985).
    pub fn is_live(&self) -> bool {
        self.model.timing != Timing::Asynchronous
    }
}

/// A fault that the model of the run forbids.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forbidden {
    /// The fault.
    pub fault: Fault,
    /// The model.
    pub model: SystemModel,
}

impl std::fmt::Display for Forbidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Forbidden { fault, model } = self;
        let needed = fault.weakened(model);
        let axes = needed.weaker_than(model);
        let joined = |of: fn(&(&'static str, &'static str)) -> &'static str| {
            axes.iter().map(of).collect::<Vec<_>>().join(",")
        };
        let (wants, has) = (joined(|axis| axis.0), joined(|axis| axis.1));
        write!(
            f,
            "{has} forbids the fault '{fault}', and {wants} permits it: weaken the model so, or \
             leave it out"
        )
    }
}

impl std::error::Error for Forbidden {}

/// Where the choices of a run come from.
#[derive(Clone, Debug)]
pub enum Origin<'a> {
    /// Drawn.
    Seed(u64),
    /// Read back.
    Log(&'a [Choice]),
    /// Read back from a log that somebody has changed: entries for messages, timers and syncs are
    /// found by the true time at which they were drawn.
    Edited(&'a [Choice]),
}

/// How much is kept of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// The outcome only.
    Outcome,
    /// The choices as well.
    Choices,
    /// The choices, and a trace to look at.
    Trace,
}

/// A property that did not hold, and when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Its name.
    pub property: String,
    /// What contradicts it.
    pub why: String,
    /// True time. Unit: nanoseconds.
    pub at: u64,
    /// If it is `liveness`: what the system still owed in the end, as far as its world can say.
    pub awaited: Vec<String>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The digest of all its events.
    pub digest: u64,
    /// What it did.
    pub tally: Tally,
    /// The property that broke, if one did.
    pub violation: Option<Violation>,
    /// The choices, if they were kept.
    pub log: Option<ChoiceLog>,
    /// The steps, if they were kept.
    pub steps: Option<Vec<Step>>,
    /// Names of nodes and clients, if steps were kept.
    pub names: (Vec<String>, Vec<String>),
}

impl Outcome {
    /// The trace, if steps were kept, with a head that says what was run and how to run it again.
    pub fn into_trace(
        self,
        protocol: &str,
        plan: &Plan,
        seed: u64,
        replay: String,
    ) -> Option<Trace> {
        let (nodes, clients) = self.names;
        let violation = self.violation;
        let head = Head {
            quorate_trace: TRACE_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: protocol.to_owned(),
            model: plan.model.to_string(),
            seed: seed.to_string(),
            nodes,
            clients,
            mutant: None,
            buggify: plan.buggify,
            property: violation.as_ref().map(|violation| violation.property.clone()),
            awaited: violation
                .as_ref()
                .map_or_else(Vec::new, |violation| violation.awaited.clone()),
            why: violation.map(|violation| violation.why),
            digest: format!("{:016x}", self.digest),
            replay,
        };
        Some(Trace { head, steps: self.steps? })
    }
}

/// Runs `world` once.
///
/// A panic of a node or of the world is caught: it is the violation of the property `crash`.
pub fn run<W: World>(world: W, plan: &Plan, origin: Origin<'_>, keep: Keep) -> Outcome {
    let choices = match origin {
        Origin::Seed(seed) if plan.planted(Mutant::Unseeded) => {
            Choices::from_seed(seed ^ unseeded())
        }
        Origin::Seed(seed) => Choices::from_seed(seed),
        Origin::Log(log) => Choices::from_log(log),
        Origin::Edited(log) => Choices::from_edited(log),
    };
    let choices = if keep == Keep::Outcome { choices } else { choices.logged() };
    let recorder = (keep == Keep::Trace).then(Recorder::default);
    let mut kernel = Kernel::new(world, plan.clone(), choices, recorder);
    if let Err(why) = caught(|| kernel.run()) {
        kernel.broken = Some(Broken::new("crash", why));
        kernel.tally.simulated = kernel.now;
    }
    let violation = kernel.broken.take().map(|broken| Violation {
        property: broken.property.to_owned(),
        why: broken.why,
        at: kernel.now,
        awaited: std::mem::take(&mut kernel.awaited),
    });
    if let Some(Violation { property, why, awaited, .. }) = &violation {
        let mut text = format!("{property}: {why}");
        if !awaited.is_empty() {
            text = format!("{text}; awaited: {}", awaited.join("; "));
        }
        kernel.record(Kind::Violation, |step| step.text = text);
    }
    let names = match kernel.recorder {
        Some(_) => (
            (0..kernel.nodes()).map(|node| kernel.world.id(node).to_string()).collect(),
            kernel.world.clients(),
        ),
        None => (Vec::new(), Vec::new()),
    };
    Outcome {
        digest: kernel.digest.value(),
        tally: kernel.tally,
        violation,
        log: kernel.choices.into_log(),
        steps: kernel.recorder.map(|recorder| recorder.steps),
        names,
    }
}

/// Another number at each call: what a generator must not be fed with.
fn unseeded() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    CALLS.fetch_add(1, Ordering::Relaxed)
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What a panic says: a text that was written down, or one that was put together.
fn words(payload: &dyn Any) -> &str {
    let composed = || payload.downcast_ref::<String>().map(String::as_str);
    let text = payload.downcast_ref::<&'static str>().copied().or_else(composed);
    text.unwrap_or("a panic without words")
}

/// Runs `body`; a panic becomes its message and place, and is not printed.
fn caught(body: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                return before(info);
            }
            let place = info.location().map_or(String::new(), |at| format!(" ({})", at.file()));
            CAUGHT.replace(format!("{}{place}", words(info.payload())));
        }));
    });
    CATCHING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(body));
    CATCHING.set(false);
    outcome.map_err(|_| CAUGHT.take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_in_its_words_whatever_they_are_made_of() {
        let number = 7;
        let composed = caught(|| panic!("{number} is wrong"));
        assert!(composed.is_err_and(|why| why.starts_with("7 is wrong (")));
        let written = caught(|| panic!("all is wrong"));
        assert!(written.is_err_and(|why| why.starts_with("all is wrong (")));
        let silent = caught(|| std::panic::panic_any(number));
        assert!(silent.is_err_and(|why| why.starts_with("a panic without words (")));
    }
}
