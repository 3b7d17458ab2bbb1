//! What others ask of the loop thread, and what is told to it from other threads.

use super::Snapshot;
use crate::reply::Reply;
use bytes::Bytes;
use quorate_core::{NodeId, Position, Time};
use quorate_replica::members::{Members, MembersError};
use quorate_replica::{Answer, Checkpoint, LeaseAnswer, LeaseAsk, Refusal, Ticket};

/// Where the answer to a change of members goes.
pub(crate) type ChangeReply = Reply<Result<Result<Members, MembersError>, Refusal>>;

/// A question to the loop thread.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Replicate.
    Write { ticket: Ticket, envelope: Bytes, reply: Reply<Result<Answer, Refusal>> },
    /// A snapshot that is fresh enough for a linearizable read.
    Read { reply: Reply<Result<Snapshot, Refusal>> },
    /// A snapshot of the present state.
    Publish { reply: Reply<Result<Snapshot, Refusal>> },
    /// Ask the leader about a lease.
    Lease { ask: LeaseAsk, reply: Reply<Result<LeaseAnswer, Refusal>> },
    /// Change the members.
    Change { ticket: Ticket, envelope: Bytes, reply: ChangeReply },
    /// Hand leadership over.
    MoveLeader { to: NodeId, reply: Reply<Result<(), Refusal>> },
    /// Hand leadership over to whoever can take it, because this member stops.
    StepAside { reply: Reply<Result<(), Refusal>> },
    /// The process of a peer has ended.
    Suspect { peer: NodeId },
    /// The rate of our clock is known to keep its bound until then, or is not known if that is
    /// over.
    TrustClock { until: Time },
    /// A checkpoint of a peer is on our disk.
    Install(Box<Checkpoint>),
    /// Take a checkpoint, due or not.
    CheckpointNow,
    /// A checkpoint of ours is on our disk, or could not be written.
    CheckpointTaken { outcome: Result<Position, String> },
    /// The peer has received a checkpoint, or has not.
    CheckpointSent { to: NodeId, outcome: Result<Position, String> },
}
