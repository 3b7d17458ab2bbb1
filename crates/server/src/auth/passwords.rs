//! Passwords: making hashes and comparing with them, beside the cluster.
//!
//! **Problem.** bcrypt takes tens of milliseconds of one processor, on purpose. Done where requests
//! are served it holds up the replica; done on many threads it takes the processor away from it;
//! and clients that log in for every request would be limited by it.
//!
//! **Idea.** One thread does it, at a priority that gives way to all others, from a queue of at
//! most [`WAITING_MAX`]; one more is refused at once. Before it stands a cache of what was found
//! right: under a key drawn at random when the process starts, a MAC of user, hash and password. So
//! the second login with the same password costs a MAC, a changed password is another entry, and no
//! password is kept. An entry is good for [`KNOWN_FOR`], and there are at most [`KNOWN_MAX`]. What
//! was found wrong is not remembered, so guessing is as slow as the one thread is.
//!
//! **Bound of the promise.** Who can read this process's memory has key and MACs, and can try
//! passwords faster than bcrypt would let him, for those who logged in lately.
//!
//! Source: Provos and Mazières, "A Future-Adaptable Password Scheme" (1999); RFC 2104 (HMAC).

use ring::hmac;
use ring::rand::SystemRandom;
use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Passwords that may wait for the one thread.
const WAITING_MAX: usize = 256;

/// Passwords that were found right and need not be looked at again for a while.
const KNOWN_MAX: usize = 16_384;

/// For how long.
const KNOWN_FOR: Duration = Duration::from_secs(300);

/// bcrypt looks at no more bytes than this; longer passwords are refused rather than cut.
pub(crate) const PASSWORD_BYTES_MAX: usize = 72;

/// What the thread gives way. On a processor that is busy it still gets about a tenth; with the
/// most that can be given, logins there would outlast the patience of their clients.
const NICE: i32 = 10;

/// Why a password was not looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Busy {
    /// Too many wait already.
    Queue,
    /// The thread has ended, or never began.
    Stopped,
}

/// What is asked of the thread.
enum Job {
    Hash { password: String, reply: oneshot::Sender<Option<String>> },
    Verify { password: String, hash: String, reply: oneshot::Sender<bool> },
}

/// Whoever knows about passwords.
pub(crate) struct Passwords {
    jobs: SyncSender<Job>,
    key: hmac::Key,
    known: Mutex<HashMap<[u8; 32], Instant>>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Passwords {
    /// Starts the thread. `cost` is bcrypt's: each step doubles the work. Range: 4 to 31.
    ///
    /// Errors: the system gives no thread, or no randomness.
    pub(crate) fn start(cost: u32) -> io::Result<Passwords> {
        let (jobs, queue) = sync_channel(WAITING_MAX);
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| io::Error::other("no randomness"))?;
        let work = move || work(&queue, cost);
        std::thread::Builder::new().name("passwords".to_owned()).spawn(work)?;
        Ok(Passwords { jobs, key, known: Mutex::default() })
    }

    /// The hash of a new password. None if the password is too long.
    pub(crate) async fn hash(&self, password: String) -> Result<Option<String>, Busy> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job::Hash { password, reply })?;
        answer.await.map_err(|_| Busy::Stopped)
    }

    /// True if the password is the one of this hash.
    pub(crate) async fn verify(
        &self,
        user: &[u8],
        hash: &[u8],
        password: String,
    ) -> Result<bool, Busy> {
        let mark = self.mark(user, hash, &password);
        if self.knows(&mark) {
            return Ok(true);
        }
        let Ok(hash) = String::from_utf8(hash.to_vec()) else { return Ok(false) };
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job::Verify { password, hash, reply })?;
        let right = answer.await.map_err(|_| Busy::Stopped)?;
        if right {
            self.remember(mark);
        }
        Ok(right)
    }

    fn enqueue(&self, job: Job) -> Result<(), Busy> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Busy::Queue,
            TrySendError::Disconnected(_) => Busy::Stopped,
        })
    }

    fn mark(&self, user: &[u8], hash: &[u8], password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        // With their lengths, so that no two lists of parts are the same bytes.
        for part in [user, hash, password.as_bytes()] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn knows(&self, mark: &[u8; 32]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(mark).is_some_and(|since| since.elapsed() < KNOWN_FOR)
    }

    #[expect(clippy::disallowed_methods, reason = "each entry stays or goes by itself")]
    fn remember(&self, mark: [u8; 32]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.retain(|_, since| since.elapsed() < KNOWN_FOR);
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(mark, Instant::now());
    }
}

fn work(queue: &Receiver<Job>, cost: u32) {
    // On Linux this is the thread's own; without it the work is still off the threads that serve.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "passwords are checked at the usual priority");
    }
    while let Ok(job) = queue.recv() {
        match job {
            // Whoever asked may have gone away, which is as good.
            Job::Hash { password, reply } if !reply.is_closed() => {
                let _ = reply.send(bcrypt::non_truncating_hash(password, cost).ok());
            }
            Job::Verify { password, hash, reply } if !reply.is_closed() => {
                let right = bcrypt::non_truncating_verify(password, &hash).unwrap_or(false);
                let _ = reply.send(right);
            }
            Job::Hash { .. } | Job::Verify { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_of_one_password() {
        let passwords = Passwords::start(4).expect("a thread");
        let hash = passwords.hash("right".to_owned()).await.expect("room").expect("short");
        assert!(hash.starts_with("$2b$04$"), "{hash}");
        for _ in 0..2 {
            for (given, wanted) in [("right", true), ("wrong", false), ("", false)] {
                let found = passwords.verify(b"ann", hash.as_bytes(), given.to_owned()).await;
                assert_eq!(found, Ok(wanted), "{given:?}");
            }
        }
        // Other implementations write other versions. This pair is from Wikipedia, "bcrypt".
        let other = b"$2a$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW";
        let found = passwords.verify(b"ann", other, "abc123xyz".to_owned()).await;
        assert_eq!(found, Ok(true));
        assert_eq!(passwords.verify(b"ann", b"no hash", "right".to_owned()).await, Ok(false));
    }

    #[tokio::test]
    async fn too_long_a_password_is_refused_rather_than_cut() {
        let passwords = Passwords::start(4).expect("a thread");
        let long = "p".repeat(PASSWORD_BYTES_MAX + 1);
        assert_eq!(passwords.hash(long).await, Ok(None));
    }

    #[tokio::test]
    async fn the_second_login_costs_no_bcrypt_and_a_new_password_does() {
        let passwords = Passwords::start(4).expect("a thread");
        let hash = passwords.hash("right".to_owned()).await.expect("room").expect("short");
        let mark = passwords.mark(b"ann", hash.as_bytes(), "right");
        assert!(!passwords.knows(&mark));
        let login = || passwords.verify(b"ann", hash.as_bytes(), "right".to_owned());
        assert_eq!(login().await, Ok(true));
        assert!(passwords.knows(&mark));
        let other = passwords.hash("right".to_owned()).await.expect("room").expect("short");
        assert!(!passwords.knows(&passwords.mark(b"ann", other.as_bytes(), "right")));
        assert!(!passwords.knows(&passwords.mark(b"bob", hash.as_bytes(), "right")));
    }

    #[tokio::test]
    async fn one_more_than_may_wait_is_refused_at_once() {
        let passwords = Passwords::start(12).expect("a thread");
        let waiting: Vec<_> = (0..WAITING_MAX + 8)
            .map(|number| {
                let (reply, answer) = oneshot::channel();
                let hash = "$2b$12$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
                let (password, hash) = (format!("guess {number}"), hash.to_owned());
                (passwords.enqueue(Job::Verify { password, hash, reply }), answer)
            })
            .collect();
        let refused = waiting.iter().filter(|(taken, _)| *taken == Err(Busy::Queue)).count();
        assert!((7..=8).contains(&refused), "{refused}: the thread has taken one, or none");
    }
}
