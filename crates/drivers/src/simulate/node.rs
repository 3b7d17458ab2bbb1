//! What surrounds one simulated node: its gate, timers and clock, and what stands still with it.

use super::clock::Clock;
use super::oscillator::{NodeClocks, Suspend};
use super::queue::{Event, Queue};
use quorate_core::{Gate, Lsn, NodeId, Protocol};
use std::collections::VecDeque;

/// Events that wait for a node which stands still; where messages may be lost, those beyond that
/// are. A reliable network keeps them all: there, what is under way is bounded by the run alone.
pub(super) const BACKLOG_MAX: usize = 65_536;

/// A named alarm.
#[derive(Debug)]
pub(super) struct Alarm<T> {
    pub(super) timer: T,
    /// Local time at which it fires.
    due: u64,
    /// Counted up whenever it is set anew, so that older events are known as such.
    pub(super) set: u32,
    pub(super) armed: bool,
}

/// One node, without its protocol and its disk.
pub(super) struct Shell<P: Protocol> {
    pub(super) id: NodeId,
    /// Whom others take it for: its own number, or that of the node whose twin it is.
    pub(super) face: usize,
    pub(super) gate: Gate<P::Message>,
    pub(super) timers: Vec<Alarm<P::Timer>>,
    pub(super) clock: Clock,
    /// What it showed at true time 0, or would have. Unit: nanoseconds.
    pub(super) clock_origin: i64,
    /// Where faults of clocks hit it, if its world gives it one.
    wall: Option<Clock>,
    suspend: Suspend,
    /// What both clocks showed when it began to stand still.
    snapshot: (u64, u64),
    /// Counted up at each crash.
    pub(super) life: u32,
    /// Faults that make it stand still, at present.
    pub(super) paused: u16,
    /// It is to start when it no longer does.
    pub(super) starts_late: bool,
    pub(super) busy_until: u64,
    /// Each turn takes so long.
    pub(super) step_time: u64,
    pub(super) backlog: Vec<Event>,
    /// Written by the protocol, not yet given to the disk.
    pub(super) pending: Vec<P::Record>,
    /// The sync under way makes records durable up to here.
    pub(super) syncing: Option<Lsn>,
    pub(super) stalled_until: u64,
    pub(super) sync_extra: u64,
    /// So many of a million messages never leave it, or are not seen by it.
    pub(super) send_omission: u64,
    pub(super) receive_omission: u64,
    pub(super) loopback: VecDeque<P::Message>,
}

impl<P: Protocol> Shell<P> {
    pub(super) fn new(id: NodeId, face: usize, clock_origin: u64) -> Self {
        Shell {
            id,
            face,
            gate: Gate::default(),
            timers: Vec::new(),
            clock: Clock::new(0, clock_origin),
            clock_origin: clock_origin as i64,
            wall: None,
            suspend: Suspend::default(),
            snapshot: (0, 0),
            life: 0,
            paused: 0,
            starts_late: false,
            busy_until: 0,
            step_time: 0,
            backlog: Vec::new(),
            pending: Vec::new(),
            syncing: None,
            stalled_until: 0,
            sync_extra: 0,
            send_omission: 0,
            receive_omission: 0,
            loopback: VecDeque::new(),
        }
    }

    /// Its clocks are these, from the beginning of the run.
    pub(super) fn take_clocks(&mut self, clocks: Option<NodeClocks>) {
        let Some(NodeClocks { oscillator, suspend }) = clocks else { return };
        self.clock = self.clock.clone().on(oscillator);
        self.wall = Some(Clock::wall());
        self.suspend = suspend;
    }

    /// The clock that faults of clocks hit.
    pub(super) fn bendable(&mut self) -> &mut Clock {
        self.wall.as_mut().unwrap_or(&mut self.clock)
    }

    /// What its monotonic clock and its wall clock show.
    pub(super) fn clocks(&self, now: u64) -> (u64, Option<u64>) {
        (self.clock.peek(now), self.wall.as_ref().map(|wall| wall.peek(now)))
    }

    /// It begins to stand still.
    pub(super) fn pause(&mut self, now: u64) {
        self.paused += 1;
        if self.paused == 1 && self.wall.is_some() {
            let (clock, wall) = self.clocks(now);
            self.snapshot = (clock, wall.unwrap_or_default());
            if self.suspend == Suspend::Stops {
                self.clock.stop(now);
            }
        }
    }

    /// One reason less to stand still.
    pub(super) fn resume(&mut self, now: u64, at: usize, queue: &mut Queue) {
        self.paused -= 1;
        let (Some(wall), 0) = (&mut self.wall, self.paused) else { return };
        match self.suspend {
            Suspend::Counts => return,
            Suspend::Stops => self.clock.go_on(now, self.snapshot.0, 0),
            Suspend::Restored(back) => {
                let back = back.as_nanos() as u64;
                self.clock.go_on(now, self.snapshot.0, back);
                wall.go_on(now, self.snapshot.1, back);
            }
        }
        self.rearm(now, at, queue);
    }

    /// Arms a timer `after` of this node's own time from now.
    pub(super) fn set_timer(
        &mut self,
        timer: P::Timer,
        after: u64,
        now: u64,
        at: usize,
        queue: &mut Queue,
    ) {
        let due = self.clock.read(now) + after;
        let slot = match self.timers.iter().position(|alarm| alarm.timer == timer) {
            Some(slot) => slot,
            None => {
                self.timers.push(Alarm { timer, due: 0, set: 0, armed: false });
                self.timers.len() - 1
            }
        };
        let alarm = &mut self.timers[slot];
        alarm.due = due;
        alarm.set += 1;
        alarm.armed = true;
        if let Some(when) = self.clock.when(due, now) {
            let (node, slot, set) = (at as u16, slot as u16, alarm.set);
            queue.push(when, Event::Timer { node, slot, set });
        }
    }

    /// Disarms a timer.
    pub(super) fn cancel_timer(&mut self, timer: P::Timer) {
        if let Some(alarm) = self.timers.iter_mut().find(|alarm| alarm.timer == timer) {
            alarm.armed = false;
            alarm.set += 1;
        }
    }

    /// The clock was bent: the timers fire at other true times.
    pub(super) fn rearm(&mut self, now: u64, at: usize, queue: &mut Queue) {
        for (slot, alarm) in self.timers.iter_mut().enumerate().filter(|(_, alarm)| alarm.armed) {
            alarm.set += 1;
            if let Some(when) = self.clock.when(alarm.due, now) {
                let (node, slot, set) = (at as u16, slot as u16, alarm.set);
                queue.push(when, Event::Timer { node, slot, set });
            }
        }
    }

    /// Forgets everything that a crash takes. Timers keep their numbers, so that what is still
    /// queued for them finds nothing.
    pub(super) fn crash(&mut self) -> Vec<Event> {
        self.life += 1;
        self.gate = Gate::default();
        self.pending.clear();
        self.syncing = None;
        self.loopback.clear();
        for alarm in &mut self.timers {
            alarm.armed = false;
            alarm.set += 1;
        }
        std::mem::take(&mut self.backlog)
    }
}
