//! Login tokens: a name that was proven once, for later requests.
//!
//! **Simple tokens.** A token says who it is of, and is sealed with a key that the cluster keeps in
//! its state:
//!
//! ```text
//!   base64url( version u8 = 1, epoch u64 LE, since u64 LE, issued u64 LE (seconds of Unix time),
//!              name, HMAC-SHA256 of all that )
//! ```
//!
//! So every member can read it without asking another one and without a table, and so can a member
//! that has just been restarted. It is worth nothing from the moment that the user is deleted or
//! gets another password (`since`), or that authentication is turned on anew (`epoch`, and the key
//! with it).
//!
//! **Time.** A token is good for the time to live from its making, and at a member that has seen it
//! used, from the last use there, as in etcd: a client that keeps asking stays logged in. Those
//! last uses are kept in memory, of at most [`SEEN_MAX`] tokens, and end with the process.
//! Members compare `issued` with their own clocks, so these have to agree to a fraction of the time
//! to live.
//!
//! **Signed tokens** are JSON Web Tokens, see `jwt.rs`. Of these the signature is remembered as
//! verified until they expire; use does not renew them.
//!
//! Source: RFC 2104 (HMAC), RFC 4648 (base64url); etcd `server/auth/simple_token.go` (times).

use super::jwt::{Jwt, JwtError, JwtSettings};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use quorate_replica::store::{Auth, Credential, Denied};
use ring::hmac;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tokens whose last use is remembered.
const SEEN_MAX: usize = 65_536;

/// The longest token that is looked at. Unit: bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 25;
const SEAL_BYTES: usize = 32;

/// Which tokens a member makes and takes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum TokenKind {
    /// Sealed by the cluster.
    #[default]
    Simple,
    /// Signed by a key of the operator.
    Jwt(JwtSettings),
}

/// Makes and takes tokens.
pub(crate) struct Tokens {
    jwt: Option<Jwt>,
    ttl: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    by_token: HashMap<String, Use>,
    /// When it was last looked for uses that are over.
    swept: Option<Instant>,
}

/// What is known of a token.
#[derive(Clone, Debug)]
struct Use {
    credential: Credential,
    until: Instant,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens of this kind; simple ones live for `ttl`.
    ///
    /// Errors: the keys of signed ones cannot be used.
    pub(crate) fn new(kind: &TokenKind, ttl: Duration) -> Result<Tokens, JwtError> {
        let jwt = match kind {
            TokenKind::Simple => None,
            TokenKind::Jwt(settings) => Some(Jwt::load(settings)?),
        };
        Ok(Tokens { jwt, ttl, seen: Mutex::default() })
    }

    /// A token for a user who has proven to be it. None if this member has no key to sign with.
    ///
    /// Panics: if there is no such user.
    pub(crate) fn issue(&self, user: &[u8], auth: &Auth) -> Option<String> {
        let now = unix_now();
        match &self.jwt {
            Some(jwt) => jwt.sign(user, auth.revision(), now),
            None => {
                let since = auth.user(user).expect("it has logged in").since;
                Some(seal(auth.token_key(), auth.epoch(), since, now, user))
            }
        }
    }

    /// Whose token this is, as far as the token itself goes.
    ///
    /// Errors: [`Denied::BadToken`].
    pub(crate) fn read(&self, token: &str, auth: &Auth) -> Result<Credential, Denied> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Denied::BadToken);
        }
        let now = Instant::now();
        if let Some(known) = self.seen().by_token.get_mut(token)
            && known.until > now
            && of_this_epoch(&known.credential, auth)
        {
            if self.jwt.is_none() {
                known.until = now + self.ttl;
            }
            return Ok(known.credential.clone());
        }
        let unix = unix_now();
        let (credential, left) = match &self.jwt {
            Some(jwt) => jwt.verify(token, unix)?,
            None => {
                let (credential, issued) = unseal(token, auth)?;
                if unix.saturating_sub(issued) >= self.ttl.as_secs().max(1) {
                    return Err(Denied::BadToken);
                }
                (credential, self.ttl)
            }
        };
        self.note(token, Use { credential: credential.clone(), until: now + left }, now);
        Ok(credential)
    }

    /// Without room the token is as good as before, and not renewed by being used.
    #[expect(clippy::disallowed_methods, reason = "each entry stays or goes by itself")]
    fn note(&self, token: &str, seen: Use, now: Instant) {
        let mut all = self.seen();
        let due = all.swept.is_none_or(|at| now.duration_since(at) > Duration::from_secs(1));
        if all.by_token.len() >= SEEN_MAX && due {
            all.by_token.retain(|_, seen| seen.until > now);
            all.swept = Some(now);
        }
        if all.by_token.len() < SEEN_MAX {
            all.by_token.insert(token.to_owned(), seen);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Authentication may have been off since.
fn of_this_epoch(credential: &Credential, auth: &Auth) -> bool {
    match credential {
        Credential::Sealed { epoch, .. } => *epoch == auth.epoch(),
        _ => true,
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn seal(key: &[u8], epoch: u64, since: u64, issued: u64, user: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + user.len() + SEAL_BYTES);
    bytes.push(VERSION);
    for number in [epoch, since, issued] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(user);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &bytes);
    bytes.extend_from_slice(tag.as_ref());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whose it is, and when it was made.
fn unseal(token: &str, auth: &Auth) -> Result<(Credential, u64), Denied> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Denied::BadToken)?;
    let name_end = bytes.len().checked_sub(SEAL_BYTES).filter(|end| *end >= HEAD_BYTES);
    let (content, tag) = bytes.split_at(name_end.ok_or(Denied::BadToken)?);
    // A key that was never drawn would be known to everybody.
    if auth.token_key().is_empty() || content[0] != VERSION {
        return Err(Denied::BadToken);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, auth.token_key());
    hmac::verify(&key, content, tag).map_err(|_| Denied::BadToken)?;
    let number =
        |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
    let user = Bytes::copy_from_slice(&content[HEAD_BYTES..]);
    let credential = Credential::Sealed { user, epoch: number(1), since: number(9) };
    Ok((credential, number(17)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_replica::store::{AuthCommand, Caller, Command, Store};

    pub(super) fn enabled() -> Store {
        let mut store = Store::new();
        let name = |text: &'static str| Bytes::from_static(text.as_bytes());
        for command in [
            AuthCommand::UserAdd { name: name("root"), hash: None },
            AuthCommand::UserAdd { name: name("ann"), hash: Some(name("hash")) },
            AuthCommand::UserGrantRole { user: name("root"), role: name("root") },
            AuthCommand::Enable { token_key: Bytes::from(vec![7; 32]) },
        ] {
            change(&mut store, command);
        }
        store
    }

    fn change(store: &mut Store, command: AuthCommand) {
        let applied = store.apply_as(&Caller::Member, &Command::Auth(command));
        applied.outcome.expect("it is in order");
    }

    fn simple(ttl: u64) -> Tokens {
        Tokens::new(&TokenKind::Simple, Duration::from_secs(ttl)).expect("no keys are needed")
    }

    #[test]
    fn a_token_is_good_on_every_member_and_after_a_restart() {
        let store = enabled();
        let token = simple(300).issue(b"ann", store.auth()).expect("a token");
        for _ in 0..2 {
            let elsewhere = simple(300);
            let credential = elsewhere.read(&token, store.auth()).expect("it is good");
            let caller = store.auth().resolve(&credential).expect("it is ann");
            assert!(matches!(caller, Caller::User { name, .. } if name == "ann"));
        }
    }

    #[test]
    fn a_token_that_was_tampered_with_is_none() {
        let store = enabled();
        let tokens = simple(300);
        let token = tokens.issue(b"ann", store.auth()).expect("a token");
        let bytes = URL_SAFE_NO_PAD.decode(&token).expect("it is base64");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                let other = URL_SAFE_NO_PAD.encode(other);
                assert_eq!(tokens.read(&other, store.auth()), Err(Denied::BadToken), "byte {at}");
            }
        }
        for other in ["", "x", "=", "AAAA", &token[1..], &"A".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(tokens.read(other, store.auth()), Err(Denied::BadToken));
        }
        let forged = seal(b"", 1, 0, unix_now(), b"root");
        assert_eq!(tokens.read(&forged, Store::new().auth()), Err(Denied::BadToken));
    }

    #[test]
    fn a_token_ends_with_its_time_and_use_renews_it() {
        let store = enabled();
        let auth = store.auth();
        let since = auth.user(b"ann").expect("there").since;
        let made = |ago| seal(auth.token_key(), auth.epoch(), since, unix_now() - ago, b"ann");
        let tokens = simple(100);
        assert!(tokens.read(&made(90), auth).is_ok());
        assert_eq!(tokens.read(&made(100), auth), Err(Denied::BadToken));
        let used = made(98);
        assert!(tokens.read(&used, auth).is_ok());
        let until = |tokens: &Tokens| tokens.seen().by_token[&used].until;
        assert!(until(&tokens) > Instant::now() + Duration::from_secs(90), "from now on anew");
        let before = until(&tokens);
        std::thread::sleep(Duration::from_millis(2));
        assert!(tokens.read(&used, auth).is_ok());
        assert!(until(&tokens) > before);
        let over = Instant::now();
        tokens.seen().by_token.get_mut(&used).expect("seen").until = over;
        let stale = made(200);
        assert_eq!(tokens.read(&stale, auth), Err(Denied::BadToken));
    }

    #[test]
    fn a_token_ends_with_the_password_and_when_authentication_is_turned_on_anew() {
        let mut store = enabled();
        let tokens = simple(300);
        let token = tokens.issue(b"ann", store.auth()).expect("a token");
        let resolve = |store: &Store| {
            let credential = tokens.read(&token, store.auth())?;
            store.auth().resolve(&credential)
        };
        assert!(resolve(&store).is_ok());
        let (name, hash) = (Bytes::from_static(b"ann"), Bytes::from_static(b"other"));
        change(&mut store, AuthCommand::UserPassword { name, hash });
        assert_eq!(resolve(&store), Err(Denied::BadToken));
        let token = tokens.issue(b"ann", store.auth()).expect("a token");
        assert!(tokens.read(&token, store.auth()).is_ok());
        change(&mut store, AuthCommand::Disable);
        change(&mut store, AuthCommand::Enable { token_key: Bytes::from(vec![8; 32]) });
        assert_eq!(tokens.read(&token, store.auth()), Err(Denied::BadToken));
    }

    #[test]
    fn what_is_remembered_of_tokens_is_bounded() {
        let store = enabled();
        let tokens = simple(300);
        for number in 0..SEEN_MAX + 10 {
            let seen = Use { credential: Credential::Nobody, until: Instant::now() };
            tokens.note(&number.to_string(), seen, Instant::now());
        }
        assert!(tokens.seen().by_token.len() <= SEEN_MAX);
        let token = tokens.issue(b"ann", store.auth()).expect("a token");
        assert!(tokens.read(&token, store.auth()).is_ok(), "it is good all the same");
    }
}
