//! The rules of the cluster at the door of one member: rates, requests in flight, priorities.
//!
//! A request is about a rule if the rule names its user or nobody, and if it reads or writes keys
//! below the rule's prefix, or might. It passes the doors of all rules that it is about, or none:
//! who is refused by one has taken nothing from the others. Of several priorities the one of the
//! closest rule counts: one that names the user comes before one that does not, then the longer
//! prefix.

use super::bucket::Bucket;
use super::{Shed, Why};
use quorate_replica::store::{Command, Credential, Keys, LimitRule, Op, Priority, Txn};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a request touches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Touched<'a> {
    /// These keys.
    Keys(&'a Keys),
    /// Those of a transaction.
    Txn(&'a Txn),
    /// Those of a command.
    Command(&'a Command),
}

/// What is asked, as far as rules go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// By whom.
    pub(crate) credential: &'a Credential,
    /// Of what.
    pub(crate) touched: Touched<'a>,
    /// How long its client waits; none if that is not told.
    pub(crate) patience: Option<Duration>,
}

impl Asked<'_> {
    fn user(&self) -> &[u8] {
        match self.credential {
            Credential::Nobody => b"",
            Credential::Sealed { user, .. }
            | Credential::Signed { user, .. }
            | Credential::Certified { user } => user,
        }
    }

    fn is_about(&self, rule: &LimitRule, keys: &Keys) -> bool {
        let of_user = rule.user.is_empty() || self.user() == &rule.user[..];
        of_user && (rule.prefix.is_empty() || self.touched.meets(keys))
    }
}

impl Touched<'_> {
    /// Whether one of `keys` may be among them.
    fn meets(&self, keys: &Keys) -> bool {
        match self {
            Touched::Keys(own) => meet(own, keys),
            Touched::Txn(txn) => txn_meets(txn, keys),
            Touched::Command(command) => match command {
                Command::Put(put) => keys.contains(&put.key),
                Command::DeleteRange(delete) => meet(&delete.keys, keys),
                Command::Txn(txn) => txn_meets(txn, keys),
                _ => false,
            },
        }
    }
}

fn txn_meets(txn: &Txn, keys: &Keys) -> bool {
    let ops = txn.success.iter().chain(&txn.failure);
    txn.compare.iter().any(|compare| meet(&compare.keys, keys))
        || ops.into_iter().any(|op| match op {
            Op::Range(range) => meet(&range.keys, keys),
            Op::Put(put) => keys.contains(&put.key),
            Op::DeleteRange(delete) => meet(&delete.keys, keys),
            Op::Txn(inner) => txn_meets(inner, keys),
        })
}

fn meet(a: &Keys, b: &Keys) -> bool {
    let begins_before_end = |a: &Keys, b: &Keys| match b.bounds().1 {
        Bound::Unbounded => true,
        Bound::Included(end) => &a.key[..] <= end,
        Bound::Excluded(end) => &a.key[..] < end,
    };
    begins_before_end(a, b) && begins_before_end(b, a)
}

/// One rule.
#[derive(Debug)]
pub(super) struct Door {
    rule: LimitRule,
    keys: Keys,
    /// Times of the bucket count from here.
    since: Instant,
    bucket: Option<Mutex<Bucket>>,
    in_flight: AtomicU64,
}

impl Door {
    fn new(rule: &LimitRule) -> Door {
        let bucket = rule.per_second.map(|per_second| {
            Mutex::new(Bucket::new(per_second, rule.burst.unwrap_or(per_second)))
        });
        let (rule, keys) = (rule.clone(), rule.keys());
        Door { rule, keys, since: Instant::now(), bucket, in_flight: AtomicU64::new(0) }
    }

    /// Who has passed leaves.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn shed(&self, why: Why) -> Shed {
        Shed::of(why, Some(self.rule.name.clone()))
    }

    fn closeness(&self) -> (bool, usize) {
        (!self.rule.user.is_empty(), self.rule.prefix.len())
    }
}

/// All rules.
#[derive(Debug, Default)]
pub(super) struct Doors {
    rules: Arc<Vec<LimitRule>>,
    doors: Vec<Arc<Door>>,
}

impl Doors {
    /// Of these rules. Who stays as he was keeps what he has counted.
    pub(super) fn after(before: &Doors, rules: &Arc<Vec<LimitRule>>) -> Doors {
        let kept = |rule: &LimitRule| before.doors.iter().find(|door| door.rule == *rule);
        let door = |rule| kept(rule).map_or_else(|| Arc::new(Door::new(rule)), Arc::clone);
        Doors { rules: Arc::clone(rules), doors: rules.iter().map(door).collect() }
    }

    pub(super) fn is_of(&self, rules: &Arc<Vec<LimitRule>>) -> bool {
        Arc::ptr_eq(&self.rules, rules)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn rule(&self, place: usize) -> Option<&LimitRule> {
        self.rules.get(place)
    }

    /// The doors that a request has to pass, and its priority.
    pub(super) fn of(&self, asked: &Asked<'_>) -> (Vec<Arc<Door>>, Priority) {
        let about = self.doors.iter().filter(|door| asked.is_about(&door.rule, &door.keys));
        let mine: Vec<Arc<Door>> = about.cloned().collect();
        let ranked = mine.iter().filter(|door| door.rule.priority.is_some());
        let closest = ranked.max_by_key(|door| door.closeness());
        let priority = closest.and_then(|door| door.rule.priority).unwrap_or_default();
        (mine, priority)
    }
}

/// Through all of these doors, or through none.
///
/// Errors: the first that is closed.
pub(super) fn pass(doors: &[Arc<Door>], now: Instant) -> Result<(), Shed> {
    for (place, door) in doors.iter().enumerate() {
        let inside = door.in_flight.fetch_add(1, Ordering::Relaxed);
        let full = door.rule.in_flight.is_some_and(|max| inside >= max);
        let early = door.bucket.as_ref().and_then(|bucket| {
            let bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.looks(now.saturating_duration_since(door.since)).err()
        });
        let why = match (full, early) {
            (true, _) => door.shed(Why::InFlight),
            (false, Some(again_after)) => Shed { again_after, ..door.shed(Why::Rate) },
            (false, None) => continue,
        };
        doors[..=place].iter().for_each(|door| door.leave());
        return Err(why);
    }
    for door in doors {
        if let Some(bucket) = &door.bucket {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(now.saturating_duration_since(door.since));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_replica::store::Put;

    fn rule(name: &'static str, user: &'static str, prefix: &'static str) -> LimitRule {
        let [name, user, prefix] =
            [name, user, prefix].map(|text| Bytes::from_static(text.as_bytes()));
        LimitRule { name, user, prefix, ..LimitRule::default() }
    }

    fn doors(rules: Vec<LimitRule>) -> Doors {
        Doors::after(&Doors::default(), &Arc::new(rules))
    }

    fn ann() -> Credential {
        Credential::Certified { user: Bytes::from_static(b"ann") }
    }

    fn keys(key: &'static str, end: &'static str) -> Keys {
        Keys {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
        }
    }

    fn named(doors: &Doors, credential: &Credential, touched: Touched<'_>) -> Vec<String> {
        let (mine, _) = doors.of(&Asked { credential, touched, patience: None });
        mine.iter().map(|door| String::from_utf8_lossy(&door.rule.name).into_owned()).collect()
    }

    #[test]
    fn a_request_is_about_the_rules_of_its_user_and_of_the_keys_it_may_touch() {
        let doors = doors(vec![rule("all", "", ""), rule("ann", "ann", ""), rule("x", "", "x/")]);
        let (nobody, ann) = (Credential::Nobody, ann());
        let cases = [
            (keys("x/1", ""), vec!["all", "x"]),
            (keys("x", ""), vec!["all"]),
            (keys("a", "x/"), vec!["all"]),
            (keys("a", "x/0"), vec!["all", "x"]),
            (keys("x0", "\0"), vec!["all"]),
            (keys("b", "\0"), vec!["all", "x"]),
            (keys("\0", "\0"), vec!["all", "x"]),
        ];
        for (keys, names) in cases {
            assert_eq!(named(&doors, &nobody, Touched::Keys(&keys)), names, "{keys:?}");
        }
        let put = Put { key: Bytes::from_static(b"x/1"), ..Put::default() };
        let inner = Txn { success: vec![Op::Put(put)], ..Txn::default() };
        let txn = Txn { failure: vec![Op::Txn(inner)], ..Txn::default() };
        assert_eq!(named(&doors, &ann, Touched::Txn(&txn)), ["all", "ann", "x"]);
        let grant = Command::LeaseRevoke { id: 1 };
        assert_eq!(named(&doors, &ann, Touched::Command(&grant)), ["all", "ann"]);
    }

    #[test]
    fn the_closest_rule_says_who_goes_first() {
        let ranked = |rule: LimitRule, priority| LimitRule { priority: Some(priority), ..rule };
        let doors = doors(vec![
            ranked(rule("all", "", ""), Priority::Low),
            ranked(rule("ann", "ann", ""), Priority::High),
            ranked(rule("x", "", "x/"), Priority::Normal),
        ]);
        let (nobody, ann) = (Credential::Nobody, ann());
        let (x, y) = (keys("x/1", ""), keys("y", ""));
        let of = |credential, keys| {
            doors.of(&Asked { credential, touched: Touched::Keys(keys), patience: None }).1
        };
        assert_eq!(of(&nobody, &y), Priority::Low);
        assert_eq!(of(&nobody, &x), Priority::Normal);
        assert_eq!(of(&ann, &x), Priority::High);
    }

    #[test]
    fn who_is_refused_by_one_rule_takes_nothing_from_another() {
        let slow = LimitRule { per_second: Some(1), burst: Some(2), ..rule("slow", "", "") };
        let narrow = LimitRule { in_flight: Some(1), ..rule("narrow", "", "") };
        let doors = doors(vec![slow, narrow]);
        let (mine, now) = (&doors.doors[..], Instant::now());
        pass(mine, now).expect("the first");
        let refused = pass(mine, now).expect_err("one is in");
        assert_eq!((refused.why, refused.rule.as_deref()), (Why::InFlight, Some(&b"narrow"[..])));
        mine.iter().for_each(|door| door.leave());
        pass(mine, now).expect("the second token is still there");
        mine.iter().for_each(|door| door.leave());
        let refused = pass(mine, now).expect_err("no token is left");
        assert_eq!((refused.why, refused.rule.as_deref()), (Why::Rate, Some(&b"slow"[..])));
        assert!(refused.again_after > Duration::from_millis(500));
        assert!(mine.iter().all(|door| door.in_flight.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_rule_that_stays_keeps_its_count() {
        let slow = LimitRule { per_second: Some(1), ..rule("slow", "", "") };
        let before = doors(vec![slow.clone()]);
        pass(&before.doors, Instant::now()).expect("the first");
        let after = Doors::after(&before, &Arc::new(vec![rule("new", "", ""), slow]));
        pass(&after.doors, Instant::now()).expect_err("the token is gone");
    }
}
