//! Carrying out what is committed, in the order of the log.
//!
//! Peers and the disk must not wait for our own apply, so committed entries are kept until the
//! messages of the step have left. A command that takes long is announced first: every member hears
//! that it is committed before any of them begins, so all are busy at the same time, and none takes
//! the silence of another for its end (see `wakefulness.rs`).

use super::membership::is_change;
use super::{Answer, ENTRY_OVERHEAD_BYTES, Indication, Replica, ReplicaMutant, SWEEP_PAUSE, Timer};
use crate::envelope::{self, Life, Ticket};
use crate::message::Message;
use crate::store::{Asked, Command};
use bytes::Bytes;
use quorate_core::{Context, Term};
use quorate_protocols::consensus::raft::{Entry, Payload};

/// A command that deletes more keys than this takes long enough to be announced.
const LONG_KEYS: u64 = 20_000;

impl Replica {
    /// Keeps entries until the messages and records of this step have left: peers and the disk
    /// must not wait for our own apply. A message to ourselves brings us back to them.
    ///
    /// The consensus may tell of entries which a checkpoint has brought in the meantime: it learnt
    /// that they are committed in the turn in which the checkpoint was installed.
    pub(super) fn hold(&mut self, mut entries: Vec<Entry>, cx: &mut Context<'_, Self>) {
        entries.retain(|entry| entry.position.index > self.applied.index);
        if entries.is_empty() {
            return;
        }
        if self.committed.is_empty() {
            cx.send(cx.id, Message::Apply);
        }
        self.committed.append(&mut entries);
    }

    pub(super) fn apply(&mut self, cx: &mut Context<'_, Self>) {
        let mut entries = std::mem::take(&mut self.committed).into_iter();
        while let Some(entry) = entries.next() {
            if self.buggify.strikes(cx) {
                self.committed.extend(std::iter::once(entry).chain(entries));
                cx.send(cx.id, Message::Apply);
                break;
            }
            assert_eq!(
                entry.position.index,
                self.applied.index.next(),
                "entries are applied in order, each once"
            );
            let at = entry.position.index;
            match entry.payload {
                Payload::Noop => {}
                Payload::Command(ref envelope) if is_change(envelope) => {
                    self.applied_bytes += ENTRY_OVERHEAD_BYTES + envelope.len() as u64;
                    self.apply_change(entry.position.index, envelope.clone(), cx);
                }
                Payload::Command(ref envelope) if self.is_witness() => {
                    self.applied_bytes += ENTRY_OVERHEAD_BYTES + envelope.len() as u64;
                }
                Payload::Command(ref envelope) => {
                    let (owner, asked) = opened(envelope.clone());
                    if self.store.doomed_by(&asked.command) > LONG_KEYS && self.announced < at {
                        self.announced = at;
                        self.committed.extend(std::iter::once(entry).chain(entries));
                        return self.announce(cx);
                    }
                    self.applied_bytes += ENTRY_OVERHEAD_BYTES + envelope.len() as u64;
                    self.apply_command(entry.position.term, owner, asked, cx);
                }
                Payload::Membership(configuration) => {
                    self.configuration = configuration.clone();
                    cx.indicate(Indication::Configured(configuration));
                    self.configured(at, cx);
                }
            }
            self.applied = entry.position;
            self.note_digest(cx);
        }
        self.release_reads(cx);
    }

    /// A command comes that takes long: the others hear first that it is committed, so that all
    /// members are busy at the same time and none takes another for silent.
    fn announce(&mut self, cx: &mut Context<'_, Self>) {
        let heard = cx.child(|cx| self.raft.tell_news(cx));
        self.hear(heard, cx);
        cx.send(cx.id, Message::Apply);
    }

    fn apply_command(
        &mut self,
        term: Term,
        (life, ticket): (Life, Ticket),
        Asked { caller, guard, command }: Asked,
        cx: &mut Context<'_, Self>,
    ) {
        let command = self.lessor.in_term(command, term);
        let applied = self.store.apply_guarded(&caller, &guard, &command);
        self.lease_applied(&command, term, cx.now);
        self.tally(&command);
        if matches!(command, Command::Compact { .. }) {
            cx.set_timer(Timer::Sweep, SWEEP_PAUSE..SWEEP_PAUSE);
        }
        let ours = life == self.life || self.planted(ReplicaMutant::LifeIgnored);
        let keeps = self.planted(ReplicaMutant::AnsweredTwice) && self.writes.contains_key(&ticket);
        if !ours || !(keeps || self.writes.remove(&ticket).is_some()) {
            return;
        }
        self.queued.remove(&ticket);
        let answer =
            Answer { revision: applied.revision, term: self.raft.term(), outcome: applied.outcome };
        cx.indicate(Indication::Answered { ticket, answer: Ok(answer) });
    }

    fn tally(&mut self, command: &Command) {
        match command {
            Command::Put(_) => self.applied_commands.puts += 1,
            Command::DeleteRange(_) => self.applied_commands.deletes += 1,
            Command::Txn(_) => self.applied_commands.txns += 1,
            _ => {}
        }
    }
}

/// Who asked for a command, and the command.
///
/// Panics: on bytes that are no command. They are committed, so every replica holds them, and going
/// on would let replicas of different versions drift apart in silence.
fn opened(sealed: Bytes) -> ((Life, Ticket), Asked) {
    let (life, ticket, encoded) = envelope::open(sealed).expect("a committed envelope opens");
    ((life, ticket), Asked::decode(encoded).expect("a committed command decodes"))
}
