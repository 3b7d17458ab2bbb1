//! One place of the cluster: a disk that outlives its node, and the node's present life.

use super::command::Switch;
use super::{Misread, Seat};
use quorate_core::{Gate, Lsn, NodeId, Protocol, Time};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// An armed alarm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alarm {
    /// Before this instant it cannot go off.
    pub(super) earliest: Time,
    /// When it goes off if time passes by itself.
    pub(super) at: Time,
}

/// What a crash ends.
pub(super) struct Life<P: Protocol> {
    pub(super) node: P,
    pub(super) gate: Gate<P::Message>,
    /// Written, but not durable.
    pub(super) unsynced: VecDeque<P::Record>,
    pub(super) alarms: BTreeMap<P::Timer, Alarm>,
    /// Messages to itself that have passed the gate.
    pub(super) loopback: VecDeque<P::Message>,
}

/// Where a node lives, crashed or not.
pub(super) struct Place<P: Protocol> {
    config: P::Config,
    /// Durable records, oldest first. Records are numbered from 1 over all lives.
    pub(super) disk: Vec<P::Record>,
    /// Durable records at the beginning of this life, where the gate counts from.
    born_with: usize,
    pub(super) auto_sync: Switch,
    pub(super) life: Option<Life<P>>,
}

/// What a completed write to disk brought about.
pub(super) struct Synced<M> {
    /// Number of the last durable record.
    pub(super) upto: Lsn,
    /// Messages which waited for it, with their receivers.
    pub(super) released: Vec<(NodeId, M)>,
}

impl<P: Protocol<Record: Clone>> Place<P> {
    pub(super) fn new(seat: Seat<P>) -> Self {
        let Seat { config, records } = seat;
        Place { config, disk: records, born_with: 0, auto_sync: Switch::Off, life: None }
    }

    /// Brings the node back from what is durable.
    pub(super) fn begin_life(&mut self) {
        assert!(self.life.is_none(), "a node that lives cannot begin to");
        self.born_with = self.disk.len();
        self.life = Some(Life {
            node: P::restore(&self.config, &mut self.disk.iter().cloned()),
            gate: Gate::default(),
            unsynced: VecDeque::new(),
            alarms: BTreeMap::new(),
            loopback: VecDeque::new(),
        });
    }

    /// The living node. Errors: it has crashed.
    pub(super) fn living(&mut self, id: NodeId) -> Result<&mut Life<P>, Misread> {
        self.life.as_mut().ok_or_else(|| Misread(format!("{id} has crashed")))
    }

    /// The number under which a record of this life is printed.
    pub(super) fn record_number(&self, lsn: Lsn) -> Lsn {
        self.born_with as Lsn + lsn
    }

    /// Makes records durable up to the number `upto` (default: all).
    ///
    /// Errors: the node has crashed; no such record waits.
    pub(super) fn sync(
        &mut self,
        id: NodeId,
        upto: Option<Lsn>,
    ) -> Result<Synced<P::Message>, Misread> {
        let (born_with, durable) = (self.born_with as Lsn, self.disk.len() as Lsn);
        let written = born_with + self.living(id)?.gate.written();
        let upto = upto.unwrap_or(written);
        if upto < durable || upto > written {
            return Err(Misread(format!("{id} wrote {written} records, {durable} are durable")));
        }
        let life = self.life.as_mut().expect("it was alive a moment ago");
        self.disk.extend(life.unsynced.drain(..(upto - durable) as usize));
        Ok(Synced { upto, released: life.gate.synced(upto - born_with).collect() })
    }
}

impl Alarm {
    /// The alarm of the node of `rank` among `nodes`: in a range of equal chances the nodes are
    /// spread evenly, so that jitter parts them as it would in nature, always in the same order.
    pub(super) fn new(now: Time, within: &Range<Duration>, rank: usize, nodes: usize) -> Alarm {
        assert!(rank < nodes, "rank {rank} among {nodes} nodes");
        let width = within.end.saturating_sub(within.start);
        let part = |count: usize| u32::try_from(count).expect("a cluster of a story is small");
        let jitter = width * part(rank) / part(nodes);
        Alarm { earliest: now.after(within.start), at: now.after(within.start + jitter) }
    }
}
