//! Too much at once: what is let in, what is refused early, and what that leaves to all others.
//!
//! **Problem.** A member that takes in whatever comes answers everybody late: the queue grows until
//! clients have given up, and what it then carries out is of use to nobody. And what is taken in
//! takes memory before anybody has looked at it.
//!
//! **Idea.** Three questions, each asked as early as it can be, each with a definite refusal: it
//! has not happened, and when to ask again is said beside it.
//!
//! | file | asks |
//! |---|---|
//! | `room.rs` `body.rs` | is there room for these bytes, of the connection and of the member? |
//! | `doors.rs` `bucket.rs` | do the rules of the cluster allow it: rate, requests in flight? |
//! | `window.rs` | is the queue short enough that it is answered in time? |
//! | `shed.rs` | how a refusal is told |
//!
//! **The queue.** Its length is no measure: the same thousand requests are nothing for one disk and
//! a second for another. So the delay of what is answered is measured. If in an interval not even
//! the luckiest request was answered within the target, there is a standing queue, and fewer are
//! let in; else more are. What is of low priority is refused at half of that, so that it goes
//! first; what is of high priority at one and a half.
//!
//! **What always goes first.** Keep-alives of leases, questions about members, alarms, users, the
//! state of a member and its health are not counted here at all: they wait for no window, and
//! [`RESERVE`] places of the queue behind it are theirs alone. What members say to each other goes
//! through another port. So no load of clients ends a lease or begins an election.
//!
//! **Bounds.** Bytes of requests in flight: [`INFLIGHT_BYTES`] unless told otherwise, a quarter of
//! it for one connection, and [`OPEN_MAX`] requests. Each member counts for itself.
//!
//! Sources: Nichols and Jacobson, "Controlling Queue Delay" (2012): the least delay of an interval
//! tells a standing queue from a burst; Maurer, "Fail at Scale" (2015); Jacobson, "Congestion
//! Avoidance and Control" (1988): back off by a factor, come back by a sum.

mod body;
mod bucket;
mod doors;
mod room;
mod shed;
mod window;

pub(crate) use body::{Manner, Metered};
pub(crate) use doors::{Asked, Touched};
pub(crate) use room::{Held, Room};
pub(crate) use shed::{AGAIN_AFTER, PUSHBACK, Shed, Why, patience, push_back};

use crate::config::Config;
use crate::handle::REQUESTS_MAX;
use crate::metrics::{Counter, Histogram};
use doors::{Door, Doors};
use quorate_replica::store::{LimitRule, Priority};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use window::Window;

/// Bytes of requests in flight on one member unless told otherwise.
pub const INFLIGHT_BYTES: u64 = 256 << 20;

/// A request that is not whole after so long is refused, unless told otherwise.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The delay at which a queue is too long, unless told otherwise.
pub const DELAY_TARGET: Duration = Duration::from_millis(500);

/// Requests whose answers have not begun; a further one is refused before it is looked at.
pub(crate) const OPEN_MAX: usize = 32_768;

/// Places among the requests of the handle that are kept for what always goes first.
pub(crate) const RESERVE: usize = 1_024;

/// Requests of one kind that are let in at most, however short the delay is.
const WINDOW_MAX: usize = (REQUESTS_MAX - RESERVE) / 2;

/// What waits for what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// For the disks of a quorum.
    Write,
    /// For the word of a quorum.
    Read,
    /// For nobody.
    Local,
}

/// What is counted, by priority: low, normal, high.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Let in.
    pub(crate) admitted: [Counter; PRIORITIES.len()],
    /// Refused, by reason.
    pub(crate) shed: [[Counter; PRIORITIES.len()]; Why::ALL.len()],
    /// From being let in to being answered.
    pub(crate) delay: Histogram,
}

impl Counts {
    /// A request was refused for want of room, before anybody knew whose it is.
    fn count_full(&self) {
        self.shed[Why::Bytes as usize][Priority::Normal as usize].add(1);
    }
}

/// In the order of [`Counts`], with their names.
pub(crate) const PRIORITIES: [(Priority, &str); 3] =
    [(Priority::Low, "low"), (Priority::Normal, "normal"), (Priority::High, "high")];

/// What one member lets in.
#[derive(Debug)]
pub(crate) struct Overload {
    /// For the bytes of requests.
    pub(crate) room: Arc<Room>,
    read_timeout_ms: AtomicU64,
    open: Arc<AtomicUsize>,
    doors: RwLock<Arc<Doors>>,
    has_doors: AtomicBool,
    writes: Window,
    reads: Window,
    /// What came of it.
    pub(crate) counts: Arc<Counts>,
}

impl Default for Overload {
    fn default() -> Overload {
        Overload {
            room: Arc::new(Room::new(INFLIGHT_BYTES as usize)),
            read_timeout_ms: AtomicU64::new(READ_TIMEOUT.as_millis() as u64),
            open: Arc::default(),
            doors: RwLock::default(),
            has_doors: AtomicBool::new(false),
            writes: Window::new(WINDOW_MAX, DELAY_TARGET),
            reads: Window::new(WINDOW_MAX, DELAY_TARGET),
            counts: Arc::default(),
        }
    }
}

/// A request that was let in; it is answered when this is dropped.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    overload: &'a Overload,
    kind: Kind,
    begun: Instant,
    doors: Vec<Arc<Door>>,
    /// Its delay says nothing: it was refused, or given up by its client.
    is_answered: bool,
}

impl Overload {
    /// A member starts with these rules and bounds. A target of zero lets everything in.
    pub(crate) fn begin(&self, rules: &Arc<Vec<LimitRule>>, config: &Config) {
        self.room.set_max(usize::try_from(config.max_inflight_bytes).unwrap_or(usize::MAX));
        let ms = u64::try_from(config.request_read_timeout.as_millis()).unwrap_or(u64::MAX);
        self.read_timeout_ms.store(ms, Ordering::Relaxed);
        self.writes.set_target(config.overload_target);
        self.reads.set_target(config.overload_target);
        self.follow(rules);
    }

    /// The rules of the cluster are these from now on.
    pub(crate) fn follow(&self, rules: &Arc<Vec<LimitRule>>) {
        let known = Arc::clone(&self.doors.read().unwrap_or_else(PoisonError::into_inner));
        if known.is_of(rules) {
            return;
        }
        let next = Doors::after(&known, rules);
        self.has_doors.store(!next.is_empty(), Ordering::Release);
        *self.doors.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    /// The rule at a place, if it is still there.
    pub(crate) fn rule(&self, place: usize) -> Option<LimitRule> {
        self.doors.read().unwrap_or_else(PoisonError::into_inner).rule(place).cloned()
    }

    /// How long a request may take to arrive.
    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms.load(Ordering::Relaxed))
    }

    /// A place for the bytes of a request of this connection, and one among those that are open.
    ///
    /// Errors: too many are.
    pub(crate) fn hold(&self, connection: Option<Arc<Room>>) -> Result<Arc<Held>, Shed> {
        let held = Held::new(&self.room, connection, &self.open, &self.counts);
        if self.open.load(Ordering::Relaxed) > OPEN_MAX {
            return Err(self.shed(Priority::Normal, Shed::of(Why::Open, None)));
        }
        Ok(held)
    }

    /// Lets a request in, or not.
    ///
    /// Errors: it is refused; nothing has happened.
    pub(crate) fn enter(&self, asked: &Asked<'_>, kind: Kind) -> Result<Pass<'_>, Shed> {
        let begun = Instant::now();
        let (doors, priority) = self.pass_doors(asked, begun)?;
        if let Some(window) = self.window(kind)
            && let Err(shed) = window.enter(priority, asked.patience)
        {
            doors.iter().for_each(|door| door.leave());
            return Err(self.shed(priority, shed));
        }
        self.counts.admitted[priority as usize].add(1);
        Ok(Pass { overload: self, kind, begun, doors, is_answered: false })
    }

    /// Through the doors of all rules that are about this request, or through none.
    fn pass_doors(
        &self,
        asked: &Asked<'_>,
        now: Instant,
    ) -> Result<(Vec<Arc<Door>>, Priority), Shed> {
        if !self.has_doors.load(Ordering::Acquire) {
            return Ok((Vec::new(), Priority::Normal));
        }
        let doors = Arc::clone(&self.doors.read().unwrap_or_else(PoisonError::into_inner));
        let (mine, priority) = doors.of(asked);
        doors::pass(&mine, now).map_err(|shed| self.shed(priority, shed))?;
        Ok((mine, priority))
    }

    fn shed(&self, priority: Priority, shed: Shed) -> Shed {
        self.counts.shed[shed.why as usize][priority as usize].add(1);
        shed
    }

    fn window(&self, kind: Kind) -> Option<&Window> {
        match kind {
            Kind::Write => Some(&self.writes),
            Kind::Read => Some(&self.reads),
            Kind::Local => None,
        }
    }

    /// How many writes, and how many reads, are let in at a time now.
    pub(crate) fn windows(&self) -> [usize; 2] {
        [self.writes.limit(), self.reads.limit()]
    }
}

impl Pass<'_> {
    /// It was carried out, or answered by the state.
    pub(crate) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.doors.iter().for_each(|door| door.leave());
        let Some(window) = self.overload.window(self.kind) else { return };
        let now = Instant::now();
        let delay = now - self.begun;
        if self.is_answered {
            self.overload.counts.delay.observe(delay);
        }
        window.leave(now, self.is_answered.then_some(delay));
    }
}
