//! What a member sets up of TLS when it starts, certificates of its own included.
//!
//! With `--auto-tls` and `--peer-auto-tls` a member makes a certificate that signs itself, and
//! keeps it in `fixtures/` of its data directory, as etcd does. Peers then look at no certificate:
//! who only listens to the network learns nothing, who stands in it can be anybody.

use super::accept::Terminator;
use super::files::{self, Facts, FileError};
use super::gauges::Gauges;
use super::keeper::{Door, Keeper, Origin, Terms};
use super::pki::{self, Existing, PkiError, Wanted};
use super::policy::Policy;
use super::settings::{Side, TlsConfigError};
use crate::config::Config;
use crate::url::Url;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const DAYS_PER_YEAR: u32 = 365;

/// A certificate of ours with less left than this is made anew at the start. Unit: seconds.
const RENEW_BEFORE: i64 = 30 * 24 * 60 * 60;

/// Why a member cannot start with TLS.
#[derive(Debug)]
pub enum OwnError {
    /// A file is no good.
    File(FileError),
    /// The certificate of our own cannot be made.
    Pki(PkiError),
    /// The settings contradict each other.
    Settings(TlsConfigError),
    /// The system refuses.
    System(io::Error),
}

impl fmt::Display for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OwnError::File(error) => error.fmt(f),
            OwnError::Pki(error) => error.fmt(f),
            OwnError::Settings(error) => error.fmt(f),
            OwnError::System(error) => write!(f, "the operating system refuses: {error}"),
        }
    }
}

impl std::error::Error for OwnError {}

impl From<FileError> for OwnError {
    fn from(error: FileError) -> OwnError {
        OwnError::File(error)
    }
}

impl From<PkiError> for OwnError {
    fn from(error: PkiError) -> OwnError {
        OwnError::Pki(error)
    }
}

impl From<io::Error> for OwnError {
    fn from(error: io::Error) -> OwnError {
        OwnError::System(error)
    }
}

/// The TLS of one side of a member.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// For our own calls.
    pub(crate) keeper: Arc<Keeper>,
    /// For those of others; none if nobody listens over TLS.
    pub(crate) terminator: Option<Arc<Terminator>>,
}

/// Sets one side up, if any of its URLs wants TLS. Begins to keep its files up, within the runtime.
///
/// `dialled` are the URLs that we call ourselves; `otherwise` is said to who calls without TLS and
/// without HTTP. Errors: a file is no good, or a certificate cannot be made.
pub(crate) fn open(
    door: Door,
    config: &Config,
    dialled: &[Url],
    gauges: &Arc<Gauges>,
    otherwise: Vec<u8>,
) -> Result<Option<Secured>, OwnError> {
    let (side, listened) = match door {
        Door::Client => {
            let urls = config.listen_client_urls.iter().chain(&config.listen_metrics_urls);
            (&config.tls.client, urls.cloned().collect())
        }
        Door::Peer => (&config.tls.peer, config.listen_peer_urls.clone()),
    };
    let listens = listened.iter().any(Url::is_https);
    if !listens && !dialled.iter().any(Url::is_https) {
        return Ok(None);
    }
    let mut side = side.clone();
    let origin = if side.is_self_signed() { Origin::Ours } else { Origin::Given };
    if origin == Origin::Ours {
        let dir = config.data_dir.join("fixtures").join(door.name());
        make(&mut side, &dir, &config.name, &listened, config.tls.self_signed_years)?;
    }
    let policy = Policy::of(&config.tls).map_err(OwnError::Settings)?;
    let keeper = Keeper::open(Terms { door, side, policy, origin }, Arc::clone(gauges))?;
    let terminator = if listens {
        Some(Arc::new(Terminator::new(Arc::clone(&keeper), Arc::clone(gauges), otherwise)?))
    } else {
        None
    };
    tokio::spawn(Arc::clone(&keeper).keep());
    Ok(Some(Secured { keeper, terminator }))
}

/// Finds or makes a certificate that signs itself, and enters it.
fn make(
    side: &mut Side,
    dir: &Path,
    name: &str,
    listened: &[Url],
    years: u32,
) -> Result<(), OwnError> {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    if !lasts(&cert) {
        let failed = |error| PkiError::Io { path: dir.to_owned(), error };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut hosts: Vec<&str> = listened.iter().map(Url::host).collect();
        hosts.retain(|host| !host.is_empty());
        if hosts.is_empty() {
            hosts = vec!["localhost", "127.0.0.1"];
        }
        let days = i32::try_from(years * DAYS_PER_YEAR).unwrap_or(i32::MAX);
        pki::self_signed(&Wanted::member(name, &hosts).lasting(days))?.write(
            &cert,
            &key,
            Existing::Replace,
        )?;
        tracing::info!("made a certificate that signs itself: {}", cert.display());
    }
    (side.cert_file, side.key_file) = (Some(cert), Some(key));
    Ok(())
}

fn lasts(cert: &Path) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    files::certificates(cert)
        .ok()
        .and_then(|chain| Facts::of(&chain[0]).ok())
        .is_some_and(|facts| facts.not_after - now > RENEW_BEFORE)
}
