//! The certificates in force, kept up with their files while the member runs.
//!
//! Problem: certificates live for days, members for months. Idea: what a handshake needs is built
//! once from the files and swapped as a whole; connections that exist keep what they began with.
//! The files are looked at every [`LOOK_EVERY`] on a thread that may wait for the disk, and not in
//! each handshake as etcd does it: a flood of handshakes must not become a flood of reads.
//!
//! ```text
//!   files --look--> same stamps: nothing
//!             \---> changed: load --ok--> swap, say so
//!                              \--bad--> what was in force stays, is told once, tried again
//! ```
//!
//! The CA and the revocation list are kept up as well. Sessions are never resumed, so that each
//! connection is judged by the files that are in force when it begins.
//!
//! Source: etcd `client/pkg/transport/listener.go` (GetCertificate reads the files anew).

use super::expiry::Watchman;
use super::files::{self, Facts, FileError, moment};
use super::gauges::Gauges;
use super::names::{Blind, Called, Callers, Names, Trust};
use super::policy::Policy;
use super::settings::Side;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

/// How often the files are looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Whom a listener is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Door {
    /// Clients.
    Client,
    /// Peers.
    Peer,
}

impl Door {
    /// As a label and in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Door::Client => "client",
            Door::Peer => "peer",
        }
    }

    /// What is spoken inside TLS.
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Door::Client => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Door::Peer => Vec::new(),
        }
    }
}

/// What a listener and the calls beside it are made of.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Whom it is for.
    pub(crate) door: Door,
    /// The files, and who is let in.
    pub(crate) side: Side,
    /// Versions and suites.
    pub(crate) policy: Policy,
    /// Whose certificate it is.
    pub(crate) origin: Origin,
}

/// Whose a certificate is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// The operator's.
    Given,
    /// One that we made, and that signs itself.
    Ours,
}

/// What is in force; replaced as a whole.
struct Material {
    /// How we are called; none without a certificate.
    server: Option<Arc<ServerConfig>>,
    /// How we call peers.
    client: Arc<ClientConfig>,
    /// By file, what is to be watched for its end.
    certificates: Vec<(PathBuf, Facts)>,
}

/// By its content, or near enough: a file that is written anew has another stamp.
type Stamp = Option<(u64, u64, i64, i64)>;

/// Keeps certificates up with their files.
pub(crate) struct Keeper {
    terms: Terms,
    gauges: Arc<Gauges>,
    material: RwLock<Arc<Material>>,
    looking: Mutex<Looking>,
}

/// What was seen last.
struct Looking {
    stamps: Vec<Stamp>,
    /// What is wrong with the files, while they are not in force.
    wrong: Option<String>,
    watchman: Watchman,
}

impl std::fmt::Debug for Keeper {
    /// Without keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("door", &self.terms.door).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Loads the files. Errors: one of them is no good; a member must not start so.
    pub(crate) fn open(terms: Terms, gauges: Arc<Gauges>) -> Result<Arc<Keeper>, FileError> {
        let stamps = stamps(&terms.side);
        let material = Arc::new(load(&terms)?);
        let looking = Looking { stamps, wrong: None, watchman: Watchman::default() };
        let keeper =
            Keeper { terms, gauges, material: RwLock::new(material), looking: Mutex::new(looking) };
        keeper.tell("certificates are in force");
        keeper.watch_expiry();
        Ok(Arc::new(keeper))
    }

    /// What a handshake with a caller begins with.
    ///
    /// Panics: if there is no certificate; the configuration is checked where it listens.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let server = self.material().server.clone();
        server.expect("who listens has a certificate")
    }

    /// What a handshake with somebody whom we call begins with.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.material().client)
    }

    /// Whom it is for.
    pub(crate) fn door(&self) -> Door {
        self.terms.door
    }

    /// What was set.
    pub(crate) fn side(&self) -> &Side {
        &self.terms.side
    }

    /// Looks at the files until the runtime ends.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut pace = interval(LOOK_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let keeper = Arc::clone(&self);
            if spawn_blocking(move || keeper.look()).await.is_err() {
                return; // The runtime ends.
            }
        }
    }

    /// Takes new files into force, if there are and they are good. May wait for the disk.
    pub(crate) fn look(&self) {
        let now = stamps(&self.terms.side);
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that was bad may have become good without a new stamp: its neighbour was written.
        if now != looking.stamps || looking.wrong.is_some() {
            match load(&self.terms) {
                Ok(material) => {
                    let mut current = self.material.write().unwrap_or_else(PoisonError::into_inner);
                    *current = Arc::new(material);
                    drop(current);
                    looking.stamps = now;
                    looking.wrong = None;
                    self.gauges.reloaded.add(1);
                    self.gauges.stale(self.terms.door, false);
                    self.tell("certificates were read anew and are in force");
                }
                Err(error) => self.refuse(&mut looking, now, error.to_string()),
            }
        }
        drop(looking);
        self.watch_expiry();
    }

    fn refuse(&self, looking: &mut Looking, now: Vec<Stamp>, wrong: String) {
        looking.stamps = now;
        self.gauges.stale(self.terms.door, true);
        if looking.wrong.as_ref() != Some(&wrong) {
            self.gauges.reload_failures.add(1);
            tracing::error!(
                listener = self.terms.door.name(),
                "cannot use the changed certificate files: {wrong}; those read before stay in force"
            );
            looking.wrong = Some(wrong);
        }
    }

    fn material(&self) -> Arc<Material> {
        Arc::clone(&self.material.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, what: &str) {
        for (path, facts) in &self.material().certificates {
            tracing::info!(
                listener = self.terms.door.name(),
                file = %path.display(),
                common_name = facts.common_name,
                names = facts.names(),
                until = moment(facts.not_after),
                "{what}"
            );
        }
    }

    fn watch_expiry(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let material = self.material();
        let ends = material.certificates.iter().map(|(path, facts)| (path, facts.not_after));
        self.gauges.expiry(self.terms.door, ends.clone());
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, not_after) in ends {
            if let Some(warning) = looking.watchman.look(path, not_after, now) {
                warning.log(path, not_after);
            }
        }
    }
}

fn paths(side: &Side) -> impl Iterator<Item = &PathBuf> {
    let all = [
        &side.cert_file,
        &side.key_file,
        &side.dial_cert_file,
        &side.dial_key_file,
        &side.trusted_ca_file,
        &side.crl_file,
    ];
    all.into_iter().flatten()
}

fn stamps(side: &Side) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
    };
    paths(side).map(stamp).collect()
}

/// Reads every file and builds what handshakes need of them.
fn load(terms: &Terms) -> Result<Material, FileError> {
    let Terms { door, side, policy, .. } = terms;
    let provider = &policy.provider;
    let roots = side.trusted_ca_file.as_deref().map(files::roots).transpose()?;
    let ours = load_pair(&side.cert_file, &side.key_file, provider)?;
    let dialling = load_pair(&side.dial_cert_file, &side.dial_key_file, provider)?;
    let names =
        Names { common_names: side.allowed_cn.clone(), hosts: side.allowed_hostname.clone() };
    let mut certificates = Vec::new();
    let shown = [
        (&side.cert_file, ours.as_ref().map(|pair| &pair.cert[0])),
        (&side.dial_cert_file, dialling.as_ref().map(|pair| &pair.cert[0])),
    ];
    for (path, certificate) in shown {
        if let (Some(path), Some(certificate)) = (path, certificate) {
            certificates.push((path.clone(), facts(path, certificate)?));
        }
    }
    if let Some(path) = &side.trusted_ca_file {
        // A bundle ends with the first of it that ends.
        let all: Result<Vec<Facts>, FileError> =
            files::certificates(path)?.iter().map(|ca| facts(path, ca)).collect();
        certificates
            .extend(all?.into_iter().min_by_key(|ca| ca.not_after).map(|ca| (path.clone(), ca)));
    }
    let serve = |pair: &Arc<CertifiedKey>| {
        serving(*door, side, policy, roots.as_ref(), pair, &names).map(Arc::new)
    };
    let server = ours.as_ref().map(serve).transpose()?;
    let client = calling(terms, roots.as_ref(), dialling.or(ours), names)?;
    Ok(Material { server, client: Arc::new(client), certificates })
}

fn facts(
    path: &Path,
    certificate: &rustls::pki_types::CertificateDer<'_>,
) -> Result<Facts, FileError> {
    Facts::of(certificate).map_err(|why| files::malformed(path, "certificate", why))
}

fn load_pair(
    cert: &Option<PathBuf>,
    key: &Option<PathBuf>,
    provider: &CryptoProvider,
) -> Result<Option<Arc<CertifiedKey>>, FileError> {
    match (cert, key) {
        (Some(cert), Some(key)) => files::pair(cert, key, provider).map(Some),
        _ => Ok(None),
    }
}

fn serving(
    door: Door,
    side: &Side,
    policy: &Policy,
    roots: Option<&Arc<RootCertStore>>,
    ours: &Arc<CertifiedKey>,
    names: &Names,
) -> Result<ServerConfig, FileError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&policy.provider))
        .with_protocol_versions(policy.versions)
        .expect("a policy has suites for its versions");
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let provider = Arc::clone(&policy.provider);
            let mut chain =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider);
            if let Some(path) = &side.crl_file {
                // A list speaks of the certificates of its own CA; those of others are not on it.
                chain = chain.with_crls(files::revoked(path)?).allow_unknown_revocation_status();
            }
            let wrong = side.crl_file.as_ref().or(side.trusted_ca_file.as_ref());
            let wrong = wrong.map_or_else(|| Path::new(""), PathBuf::as_path);
            let chain = chain.build().map_err(|error| {
                files::malformed(wrong, "list or certificate of a CA", error.to_string())
            })?;
            builder.with_client_cert_verifier(Arc::new(Callers { chain, names: names.clone() }))
        }
    };
    let ours = SingleCertAndKey::from(Arc::clone(ours));
    let mut config = builder.with_cert_resolver(Arc::new(ours));
    config.alpn_protocols = door.protocols();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn calling(
    terms: &Terms,
    roots: Option<&Arc<RootCertStore>>,
    shown: Option<Arc<CertifiedKey>>,
    names: Names,
) -> Result<ClientConfig, FileError> {
    let Terms { side, policy, origin, .. } = terms;
    let provider = Arc::clone(&policy.provider);
    let chain: Arc<dyn ServerCertVerifier> = match roots {
        None if *origin == Origin::Ours => Arc::new(Blind { provider, trust: Trust::Anybody }),
        None => system(provider),
        Some(roots) => {
            let mut chain =
                WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider);
            if let Some(path) = &side.crl_file {
                chain = chain.with_crls(files::revoked(path)?).allow_unknown_revocation_status();
            }
            let wrong = side.trusted_ca_file.as_deref().unwrap_or(Path::new(""));
            chain.build().map_err(|error| {
                files::malformed(wrong, "list or certificate of a CA", error.to_string())
            })?
        }
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&policy.provider))
        .with_protocol_versions(policy.versions)
        .expect("a policy has suites for its versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Called { chain, names }));
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Trusts whom the machine trusts, as etcd does when no CA is named.
pub(super) fn system(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    match chain.build() {
        Ok(chain) => chain,
        Err(_) => Arc::new(Blind { provider, trust: Trust::Nobody }), // As the machine does.
    }
}
