//! Alarms: conditions that the members agree on, and what they forbid.
//!
//! **Problem.** A member that runs out of space must stop the growth of the *cluster*: if it alone
//! refused, it would fall behind and the others would go on until they are full as well.
//!
//! **Idea.** An alarm is part of the replicated state: raised, cleared and judged by commands of
//! the log, so every member refuses the same commands. A space alarm forbids what makes the store
//! grow and nothing else; deleting, compacting and revoking is how an operator gets out of it. An
//! alarm of corruption forbids every command of a client. Reads are not commands and go on, as in
//! etcd.
//!
//! **Bounds.** One alarm per member and kind; [`ALARMS_MAX`] in all, a further one is not kept.
//!
//! Source: etcd `server/etcdserver/api/v3alarm`, `apply.go` (`applierV3Capped`,
//! `applierV3Corrupt`). Other than there, a put nested in a transaction counts as a put, and
//! clearing for member 0 clears the alarms of all members, which is what its API says.

use super::{Command, KvError, Mutant, Op, Outcome, Store, Txn};
use std::fmt;

/// Alarms that a store keeps. Members raise at most one of each kind, operators any.
pub const ALARMS_MAX: usize = 1_024;

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AlarmKind {
    /// Space is used up: of the quota, or of a member's disk.
    NoSpace,
    /// Members disagree on the state.
    Corrupt,
}

/// An active alarm.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Alarm {
    /// What is wrong.
    pub kind: AlarmKind,
    /// With which member. 0 is no member in particular.
    pub member: u64,
}

/// What is to become of alarms.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AlarmAction {
    /// Becomes active; an active one stays as it is.
    Raise(Alarm),
    /// Is no longer active. Member 0 stands for every member.
    Clear(Alarm),
}

impl AlarmKind {
    /// The number on the wire and in the log.
    pub fn code(self) -> u8 {
        match self {
            AlarmKind::NoSpace => 1,
            AlarmKind::Corrupt => 2,
        }
    }

    /// The inverse of [`AlarmKind::code`].
    pub fn of_code(code: u8) -> Option<AlarmKind> {
        match code {
            1 => Some(AlarmKind::NoSpace),
            2 => Some(AlarmKind::Corrupt),
            _ => None,
        }
    }
}

impl fmt::Display for AlarmKind {
    /// etcd's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        })
    }
}

impl Txn {
    /// True if some branch puts, taken or not.
    pub fn may_put(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Put(_) => true,
            Op::Range(_) | Op::DeleteRange(_) => false,
            Op::Txn(txn) => txn.may_put(),
        })
    }
}

impl Store {
    /// The active alarms, by kind and member.
    pub fn alarms(&self) -> impl Iterator<Item = Alarm> {
        self.alarms.iter().map(|(alarm, ())| *alarm)
    }

    /// True if some member has this alarm.
    pub fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.alarms().any(|alarm| alarm.kind == kind)
    }

    /// Errors: an active alarm forbids this command.
    pub(super) fn permits(&self, command: &Command) -> Result<(), KvError> {
        let grows = match command {
            Command::Put(_) | Command::LeaseGrant { .. } => true,
            Command::Txn(txn) => txn.may_put(),
            Command::DeleteRange(_) | Command::Compact { .. } | Command::LeaseRevoke { .. } => {
                false
            }
            // Or no alarm could ever be cleared, and locks outlive their holders. Users, roles
            // and limits have bounds of their own.
            Command::Alarm(_)
            | Command::Auth(_)
            | Command::Limit(_)
            | Command::LeaseExpire { .. }
            | Command::LeaseCountdown { .. } => {
                return Ok(());
            }
        };
        if self.alarms.is_empty() {
            return Ok(());
        }
        if self.has_alarm(AlarmKind::Corrupt) {
            return Err(KvError::Corrupt);
        }
        let tight = self.has_alarm(AlarmKind::NoSpace) && !self.planted(Mutant::AlarmIgnored);
        if tight && (grows || self.planted(Mutant::AlarmForbidsDeletes)) {
            return Err(KvError::NoSpace);
        }
        Ok(())
    }

    /// Carries out a command on alarms: answers with those that it raised or cleared.
    pub(super) fn alarm(&mut self, action: &AlarmAction) -> Outcome {
        let alarms = match action {
            AlarmAction::Raise(alarm) => {
                if self.alarms.len() < ALARMS_MAX {
                    self.alarms.insert(*alarm, ());
                }
                vec![*alarm]
            }
            AlarmAction::Clear(wanted) => {
                let meant = |alarm: &Alarm| {
                    let member = wanted.member == 0 || wanted.member == alarm.member;
                    member && alarm.kind == wanted.kind
                };
                let cleared: Vec<Alarm> = self.alarms().filter(meant).collect();
                for alarm in &cleared {
                    self.alarms.remove(alarm);
                }
                cleared
            }
        };
        Outcome::Alarms(alarms)
    }
}
