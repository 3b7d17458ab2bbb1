//! What users and parts of the key space may take: rules that the whole cluster shares.
//!
//! **Problem.** One client that asks too often, or stores too much, takes from all others. A bound
//! that each member is configured with differs from member to member; and how much a prefix may
//! store can be judged only where writes are put in order.
//!
//! **Idea.** Rules are part of the state and are changed by commands of the log. What limits the
//! *storage* of a prefix is judged when a command is carried out, by every replica alike. What
//! limits *requests* (their rate, how many are in flight, who goes first) is no matter of the
//! state: each member reads the rules and keeps to them at its own door.
//!
//! | of a rule | counts | judged |
//! |---|---|---|
//! | [`Quota`] | living keys below the prefix, and their bytes | when a command is carried out |
//! | the rest | requests of the user, or to keys below the prefix | by the member that is asked |
//!
//! **Accounting.** The bytes of a key are those of its name and its latest value; versions of the
//! past count nothing, so a compaction gives nothing back. What a key takes is charged where a key
//! is written and given back where it dies, whatever kills it: a delete, a transaction, the end of
//! a lease. A command that would leave a prefix above its quota, and higher than before it, is
//! refused as a whole and changes nothing; what takes less than before is always carried out. A
//! quota below what is there already takes nothing away, it stops growth.
//!
//! **Guarantees.** After every command, what is counted of a rule is what a walk over the living
//! keys would find. Equal commands give equal refusals, whenever a replica was restarted between:
//! the counts are not saved, they follow from the keys.
//!
//! **Bounds.** [`RULES_MAX`] rules; names, users and prefixes as long as the constants say. To set
//! a quota walks the keys below its prefix once.
//!
//! Sources: ZooKeeper, "Quotas" (administrator's guide: counts and bytes of a subtree); Kubernetes
//! KEP-1040, "API Priority and Fairness" (rules that are part of the state, kept at every door).

mod bytes;

use super::{Keys, KvError, Mutant, Outcome, Store};
use ::bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// Rules of one cluster.
pub const RULES_MAX: usize = 256;

/// The longest name of a rule. Unit: bytes.
pub const RULE_NAME_BYTES_MAX: usize = 64;

/// The longest user that a rule names. Unit: bytes.
pub const RULE_USER_BYTES_MAX: usize = 256;

/// The longest prefix that a rule names. Unit: bytes.
pub const RULE_PREFIX_BYTES_MAX: usize = 1_024;

/// Who goes first when there is too much to do.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Priority {
    /// Given up first.
    Low,
    /// Of who has no rule.
    #[default]
    Normal,
    /// Given up last of what clients ask.
    High,
}

/// What a prefix may store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quota {
    /// Bytes of living keys and their values; none is no bound.
    pub bytes: Option<u64>,
    /// Living keys; none is no bound.
    pub keys: Option<u64>,
}

impl Quota {
    /// True if it bounds nothing.
    pub fn is_empty(self) -> bool {
        self == Quota::default()
    }
}

/// A rule.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LimitRule {
    /// By which it is changed and removed. Range: 1 to [`RULE_NAME_BYTES_MAX`] letters and digits
    /// of ASCII, and `-_./`.
    pub name: Bytes,
    /// Whose requests; empty: everybody's.
    pub user: Bytes,
    /// To keys that begin so; empty: to all.
    pub prefix: Bytes,
    /// Requests in a second that one member takes; none is no bound.
    pub per_second: Option<u64>,
    /// Requests that may come at once after a pause; none: as many as in a second.
    pub burst: Option<u64>,
    /// Requests that one member has in flight; none is no bound.
    pub in_flight: Option<u64>,
    /// Who goes first; none leaves it.
    pub priority: Option<Priority>,
    /// What the prefix may store.
    pub quota: Quota,
}

/// Changes the rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LimitCommand {
    /// There is this rule from now on, instead of one of its name.
    Set(LimitRule),
    /// There is no rule of this name any more.
    Remove {
        /// The name.
        name: Bytes,
    },
}

/// Why the rules stay as they are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LimitError {
    /// No rule has this name.
    NotFound,
    /// There are [`RULES_MAX`] rules.
    TooMany,
    /// A rule without a name, or with one that is too long or has other letters than are allowed.
    BadName,
    /// A user or a prefix that is too long.
    TooLong,
    /// A rule that limits nothing.
    Nothing,
    /// A burst without a rate, or a bound of zero that would let nothing through.
    BadRate,
    /// A storage quota of a user: keys have no owner.
    QuotaOfUser,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitError::NotFound => f.write_str("quorate: no rule has this name"),
            LimitError::TooMany => {
                write!(f, "quorate: there are {RULES_MAX} rules already; remove one")
            }
            LimitError::BadName => {
                write!(
                    f,
                    "quorate: a rule needs a name of 1 to {RULE_NAME_BYTES_MAX} letters, digits \
                     and -_./"
                )
            }
            LimitError::TooLong => write!(
                f,
                "quorate: a rule names a user of at most {RULE_USER_BYTES_MAX} bytes and a prefix \
                 of at most {RULE_PREFIX_BYTES_MAX}"
            ),
            LimitError::Nothing => f.write_str(
                "quorate: the rule limits nothing; give a rate, requests in flight, a priority or \
                 a quota",
            ),
            LimitError::BadRate => f.write_str(
                "quorate: a rate, its burst and the requests in flight are at least 1, and a burst \
                 goes with a rate",
            ),
            LimitError::QuotaOfUser => f.write_str(
                "quorate: a storage quota is of a prefix, not of a user: keys have no owner",
            ),
        }
    }
}

/// Which bound of a quota.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum QuotaKind {
    /// [`Quota::bytes`].
    Bytes,
    /// [`Quota::keys`].
    Keys,
}

/// What is counted of the living keys below a prefix.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Used {
    /// Of names and latest values.
    pub bytes: u64,
    /// Keys.
    pub keys: u64,
}

/// The rules of a state and what is counted for them.
#[derive(Clone, Debug)]
pub(in crate::store) struct Limits {
    /// By name, ascending.
    rules: Arc<Vec<LimitRule>>,
    /// Of each rule; zero for one without a quota.
    used: Vec<Used>,
    has_quotas: bool,
}

impl LimitRule {
    /// Errors: it is none.
    pub fn check(&self) -> Result<(), LimitError> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./".contains(byte);
        let length = 1..=RULE_NAME_BYTES_MAX;
        if !length.contains(&self.name.len()) || !self.name.iter().all(allowed) {
            return Err(LimitError::BadName);
        }
        if self.user.len() > RULE_USER_BYTES_MAX || self.prefix.len() > RULE_PREFIX_BYTES_MAX {
            return Err(LimitError::TooLong);
        }
        let rates = [self.per_second, self.burst, self.in_flight];
        let lonely = self.burst.is_some() && self.per_second.is_none();
        if lonely || rates.contains(&Some(0)) {
            return Err(LimitError::BadRate);
        }
        if !self.quota.is_empty() && !self.user.is_empty() {
            return Err(LimitError::QuotaOfUser);
        }
        let limits = rates.iter().any(Option::is_some) || self.priority.is_some();
        if !limits && self.quota.is_empty() {
            return Err(LimitError::Nothing);
        }
        Ok(())
    }

    /// The keys that it is about.
    pub fn keys(&self) -> Keys {
        let open = Bytes::from_static(b"\0");
        if self.prefix.is_empty() {
            return Keys { key: open.clone(), range_end: open };
        }
        let mut end = self.prefix.to_vec();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let range_end = if end.is_empty() { open } else { Bytes::from(end) };
        Keys { key: self.prefix.clone(), range_end }
    }
}

impl Limits {
    pub(in crate::store) fn new() -> Limits {
        Limits { rules: Arc::default(), used: Vec::new(), has_quotas: false }
    }

    /// What was saved. What is counted is to be counted again. None if it cannot have been saved.
    pub(in crate::store) fn restore(rules: Vec<LimitRule>) -> Option<Limits> {
        let ascend = rules.windows(2).all(|pair| pair[0].name < pair[1].name);
        let good = rules.iter().all(|rule| rule.check().is_ok());
        if !ascend || !good || rules.len() > RULES_MAX {
            return None;
        }
        let used = vec![Used::default(); rules.len()];
        let has_quotas = rules.iter().any(|rule| !rule.quota.is_empty());
        Some(Limits { rules: Arc::new(rules), used, has_quotas })
    }

    pub(in crate::store) fn rules(&self) -> &[LimitRule] {
        &self.rules
    }

    /// The latest value of `key` takes another place: `None` is no value. Unit: bytes.
    fn charge(&mut self, key: &[u8], before: Option<u64>, after: Option<u64>) {
        let taken = |value: Option<u64>| value.map_or(0, |bytes| bytes + key.len() as u64);
        for (rule, used) in self.rules.iter().zip(&mut self.used) {
            if rule.quota.is_empty() || !key.starts_with(&rule.prefix) {
                continue;
            }
            used.bytes = used.bytes + taken(after) - taken(before);
            used.keys = used.keys + u64::from(after.is_some()) - u64::from(before.is_some());
        }
    }

    /// The first quota that is passed here, and further than it was `before`.
    fn passed(&self, before: &[Used]) -> Option<KvError> {
        let counts = self.rules.iter().zip(self.used.iter().zip(before));
        counts.enumerate().find_map(|(rule, (LimitRule { quota, .. }, (used, before)))| {
            let beyond = |max: Option<u64>, used: u64, before: u64| {
                max.filter(|max| used > *max && used > before)
            };
            let (kind, max) = beyond(quota.bytes, used.bytes, before.bytes)
                .map(|max| (QuotaKind::Bytes, max))
                .or(beyond(quota.keys, used.keys, before.keys).map(|max| (QuotaKind::Keys, max)))?;
            Some(KvError::QuotaExceeded { rule: rule as u16, kind, max })
        })
    }
}

impl Store {
    /// The rules, by name, with what is counted for those that have a quota.
    pub fn limits(&self) -> impl ExactSizeIterator<Item = (&LimitRule, Used)> {
        self.limits.rules.iter().zip(self.limits.used.iter().copied())
    }

    /// The rules alone; the same pointer as long as they stay the same.
    pub fn limit_rules(&self) -> &Arc<Vec<LimitRule>> {
        &self.limits.rules
    }

    pub(in crate::store) fn change_limits(
        &mut self,
        command: &LimitCommand,
    ) -> Result<Outcome, KvError> {
        let rules = &self.limits.rules;
        let place = |name: &Bytes| rules.binary_search_by(|rule| rule.name.cmp(name));
        match command {
            LimitCommand::Set(rule) => {
                rule.check().map_err(KvError::Limit)?;
                let place = place(&rule.name);
                if place.is_err() && rules.len() == RULES_MAX {
                    return Err(KvError::Limit(LimitError::TooMany));
                }
                let used = self.count_for(rule);
                let rules = Arc::make_mut(&mut self.limits.rules);
                match place {
                    Ok(at) => {
                        rules[at] = rule.copied();
                        self.limits.used[at] = used;
                    }
                    Err(at) => {
                        rules.insert(at, rule.copied());
                        self.limits.used.insert(at, used);
                    }
                }
            }
            LimitCommand::Remove { name } => {
                let at = place(name).map_err(|_| KvError::Limit(LimitError::NotFound))?;
                Arc::make_mut(&mut self.limits.rules).remove(at);
                self.limits.used.remove(at);
            }
        }
        self.limits.has_quotas = self.limits.rules.iter().any(|rule| !rule.quota.is_empty());
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.digest.fold_bytes(&bytes);
        Ok(Outcome::Limit)
    }

    /// What a walk over the living keys finds for a rule; nothing if it has no quota.
    fn count_for(&self, rule: &LimitRule) -> Used {
        if rule.quota.is_empty() {
            return Used::default();
        }
        let keys = rule.keys();
        let (lower, upper) = keys.bounds();
        let living = self.live.range(lower, upper).map(|(_, living)| &living.kv);
        living.fold(Used::default(), |used, kv| Used {
            bytes: used.bytes + (kv.key.len() + kv.value.len()) as u64,
            keys: used.keys + 1,
        })
    }

    /// How many keys that walk visits.
    pub(in crate::store) fn counted_for(&self, rule: &LimitRule) -> u64 {
        let keys = rule.keys();
        let (lower, upper) = keys.bounds();
        if rule.quota.is_empty() { 0 } else { self.live.count(lower, upper) as u64 }
    }

    /// Takes in rules that were saved, after the keys.
    pub(in crate::store) fn restore_limits(&mut self, rules: Vec<LimitRule>) -> Option<()> {
        let mut limits = Limits::restore(rules)?;
        for (rule, used) in limits.rules.iter().zip(&mut limits.used) {
            *used = self.count_for(rule);
        }
        self.limits = limits;
        Some(())
    }

    /// Carries out what writes keys, unless it passes a quota; then nothing has happened.
    pub(in crate::store) fn within_quotas(
        &mut self,
        write: impl FnOnce(&mut Store) -> Result<Outcome, KvError>,
    ) -> Result<Outcome, KvError> {
        if !self.limits.has_quotas || self.planted(Mutant::QuotaIgnored) {
            return write(self);
        }
        let before = self.clone();
        let outcome = write(self)?;
        if let Some(why) = self.limits.passed(&before.limits.used) {
            *self = before;
            return Err(why);
        }
        Ok(outcome)
    }

    /// The latest value of `key` takes another place: `None` is no value. Unit: bytes.
    pub(in crate::store) fn charge(
        &mut self,
        key: &[u8],
        before: Option<usize>,
        after: Option<usize>,
    ) {
        if !self.limits.has_quotas {
            return;
        }
        if after.is_none() && self.planted(Mutant::QuotaNotReturned) {
            return;
        }
        let wide = |bytes: Option<usize>| bytes.map(|bytes| bytes as u64);
        self.limits.charge(key, wide(before), wide(after));
    }
}
