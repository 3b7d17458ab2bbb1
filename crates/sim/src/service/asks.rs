//! What clients asked to be replicated, and what became of each: it takes effect once, or never,
//! and never after it was refused.
//!
//! The log names a command by the life and the ticket under which it was asked. Nothing else gets
//! into the log but the records of leaders about leases; so whatever changes the store was asked
//! for, and no change is explained by a request that may or may not be still on its way.
//!
//! *Bounds.* One entry per ticket of the run; its answer is kept until it is judged.

use super::truth::{Did, Stand, Truth};
use quorate_core::{Index, Term};
use quorate_drivers::simulate::Broken;
use quorate_replica::store::{Asked, Command, KvError, Outcome};
use quorate_replica::{Life, Ticket};
use std::collections::BTreeMap;

/// What became of a command.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) index: Index,
    /// Where the store stood then; for a request that was carried out before, after that time.
    pub(super) stand: Stand,
    pub(super) outcome: Result<Outcome, KvError>,
    /// It was carried out before.
    pub(super) repeated: bool,
}

#[derive(Debug)]
enum Fate {
    /// It is no command.
    None,
    /// It may take effect; `doubtful`: whoever asked will not be told.
    Open {
        operation: u64,
        asked: Asked,
        doubtful: bool,
    },
    /// It took effect, and its answer is not judged yet.
    Done {
        operation: u64,
        done: Done,
    },
    /// It took effect there.
    Told {
        operation: u64,
        index: Index,
    },
    Refused {
        operation: u64,
        why: String,
    },
}

/// All that was asked.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// By ticket, from 1 on.
    lives: BTreeMap<Life, Vec<Fate>>,
    /// How many took effect of which nobody knew whether they would.
    pub(super) surprises: u64,
}

fn once(why: String) -> Broken {
    Broken::new("once", why)
}

impl Asks {
    /// A command is asked for.
    pub(super) fn ask(&mut self, (life, ticket): (Life, Ticket), operation: u64, asked: Asked) {
        let fates = self.lives.entry(life).or_default();
        let place = ticket.0 as usize - 1;
        while fates.len() <= place {
            fates.push(Fate::None);
        }
        fates[place] = Fate::Open { operation, asked, doubtful: false };
    }

    fn fate(&mut self, (life, ticket): (Life, Ticket)) -> Option<&mut Fate> {
        self.lives.get_mut(&life)?.get_mut((ticket.0 as usize).checked_sub(1)?)
    }

    /// The next entry of the log, at `index` and of `term`, is this command.
    ///
    /// Errors: nobody asked for it, or not for this, or it has taken effect or was refused before.
    pub(super) fn take_effect(
        &mut self,
        name: (Life, Ticket),
        found: &Asked,
        (index, term): (Index, Term),
        truth: &mut Truth,
    ) -> Result<Did, Broken> {
        let command = &found.command;
        if matches!(command, Command::LeaseExpire { .. } | Command::LeaseCountdown { .. }) {
            return truth.apply(found, term);
        }
        let Some(fate) = self.fate(name) else {
            return Err(once(format!("nobody asked for {command:?} at {index}")));
        };
        let (operation, asked, doubtful) = match fate {
            Fate::Open { operation, asked, doubtful } => (*operation, asked, *doubtful),
            Fate::None => return Err(once(format!("nobody asked for {command:?} at {index}"))),
            Fate::Done { operation, done: Done { index: first, .. } }
            | Fate::Told { operation, index: first } => {
                let why = format!("operation {operation} took effect at {first} and at {index}");
                return Err(once(why));
            }
            Fate::Refused { operation, why } => {
                let why = format!("operation {operation} was refused, {why}, and is at {index}");
                return Err(once(why));
            }
        };
        if !is_same(asked, found) {
            let why = format!("operation {operation} asked for {asked:?}, and {command:?} happens");
            return Err(once(why));
        }
        let did = truth.apply(asked, term)?;
        let outcome = did.outcome.clone();
        *fate = match doubtful {
            true => Fate::Told { operation, index },
            false => {
                let now = truth.stand(index);
                let stand = did.repeated.map_or(now, |revision| Stand { revision, ..now });
                let repeated = did.repeated.is_some();
                let done = Done { index, stand, outcome, repeated };
                Fate::Done { operation, done }
            }
        };
        self.surprises += u64::from(doubtful);
        Ok(did)
    }

    /// A client is told that its command took effect: what it must have done.
    ///
    /// Errors: no member has applied it.
    pub(super) fn told(&mut self, name: (Life, Ticket)) -> Result<Done, Broken> {
        let Some(fate) = self.fate(name) else { return Err(not_there(name)) };
        match std::mem::replace(fate, Fate::None) {
            Fate::Done { operation, done } => {
                *fate = Fate::Told { operation, index: done.index };
                Ok(done)
            }
            other => {
                *fate = other;
                Err(not_there(name))
            }
        }
    }

    /// A client is told that its command did not and will not happen.
    ///
    /// Errors: it has happened.
    pub(super) fn refuse(&mut self, name: (Life, Ticket), why: &str) -> Result<(), Broken> {
        let Some(fate) = self.fate(name) else { return Ok(()) };
        match fate {
            Fate::Done { operation, done: Done { index, .. } }
            | Fate::Told { operation, index } => {
                let why =
                    format!("operation {operation} took effect at {index}, and is refused: {why}");
                Err(once(why))
            }
            Fate::Open { operation, .. } => {
                *fate = Fate::Refused { operation: *operation, why: why.to_owned() };
                Ok(())
            }
            Fate::None | Fate::Refused { .. } => Ok(()),
        }
    }

    /// The client will not be told what becomes of its command.
    pub(super) fn doubt(&mut self, name: (Life, Ticket)) {
        let Some(fate) = self.fate(name) else { return };
        match fate {
            Fate::Open { doubtful, .. } => *doubtful = true,
            Fate::Done { operation, done } => {
                *fate = Fate::Told { operation: *operation, index: done.index };
                self.surprises += 1;
            }
            Fate::None | Fate::Told { .. } | Fate::Refused { .. } => {}
        }
    }
}

fn not_there((life, ticket): (Life, Ticket)) -> Broken {
    let (life, ticket) = (life.0, ticket.0);
    let why = format!("request {ticket} of life {life} is acknowledged, and nobody has applied it");
    Broken::new("durable", why)
}

/// The leader writes its clock into a grant.
fn is_same(asked: &Asked, found: &Asked) -> bool {
    match (&asked.command, &found.command) {
        (Command::LeaseGrant { id, ttl, .. }, Command::LeaseGrant { id: other, ttl: time, .. }) => {
            (id, ttl) == (other, time)
        }
        _ => asked == found,
    }
}
