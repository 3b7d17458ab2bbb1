//! A small public key infrastructure: one CA, and certificates for members and clients.
//!
//! It is for development, for tests, and for clusters that have no CA of their own. Keys are
//! ECDSA P-256. A member's certificate is good for serving and for calling, since members do both;
//! a client's carries its name as CommonName, which is the user it logs in as. Certificates begin
//! to be valid [`BACKDATE`] ago, because the clocks of two machines differ.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// So long ago a new certificate began to be valid.
pub const BACKDATE: Duration = Duration::from_secs(60 * 60);

/// Life of a certificate unless told otherwise. Unit: days.
pub const DAYS_DEFAULT: u32 = 365;

/// Life of a CA unless told otherwise. Unit: days.
pub const CA_DAYS_DEFAULT: u32 = 3650;

/// Longest life. Unit: days.
pub const DAYS_MAX: u32 = 36_500;

/// Who may read a key: its owner.
const KEY_MODE: u32 = 0o600;
/// A certificate is public.
const CERT_MODE: u32 = 0o644;

/// Why a certificate could not be made.
#[derive(Debug)]
pub enum PkiError {
    /// The name of a host is no name.
    Host {
        /// As given.
        host: String,
    },
    /// The certificate or key of the CA is none.
    Authority {
        /// Why not.
        why: String,
    },
    /// It could not be made.
    Make {
        /// Why not.
        why: String,
    },
    /// A file is there already.
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
}

impl fmt::Display for PkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PkiError::Host { host } => {
                write!(f, "\"{host}\" is no host; write a DNS name or an IP address")
            }
            PkiError::Authority { why } => write!(
                f,
                "the CA cannot be used: {why}; make one with 'quorate pki init', or name another \
                 directory with --dir"
            ),
            PkiError::Make { why } => write!(f, "cannot make a certificate: {why}"),
            PkiError::Exists { path } => {
                write!(f, "{} exists; --force replaces it", path.display())
            }
            PkiError::Io { path, error } => write!(f, "cannot use {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for PkiError {}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> PkiError {
        PkiError::Make { why: error.to_string() }
    }
}

/// What is asked of a CA.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its CommonName.
    pub name: String,
    /// What it is good for.
    pub purpose: Purpose,
    /// DNS names and addresses.
    pub hosts: Vec<String>,
    /// Days that it is good for, from now. Range: up to [`DAYS_MAX`]; negative: it has expired.
    pub days: i32,
}

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Serving, and calling other members.
    Member,
    /// Calling members.
    Client,
}

impl Wanted {
    /// A certificate for a member on these hosts.
    pub fn member(name: &str, hosts: &[&str]) -> Wanted {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Wanted { name: name.to_owned(), purpose: Purpose::Member, hosts, days: DAYS_DEFAULT as i32 }
    }

    /// A certificate for a client of this name.
    pub fn client(name: &str) -> Wanted {
        let hosts = Vec::new();
        Wanted { name: name.to_owned(), purpose: Purpose::Client, hosts, days: DAYS_DEFAULT as i32 }
    }

    /// The same with another life.
    pub fn lasting(self, days: i32) -> Wanted {
        Wanted { days, ..self }
    }
}

/// A certificate with its key.
pub struct Issued {
    cert_pem: String,
    key_pem: String,
    serial: Vec<u8>,
}

impl fmt::Debug for Issued {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Issued {
    /// The certificate in PEM form.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Its key in PEM form. Must not be shown.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// By what a revocation list names it.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// Writes `NAME.crt` and `NAME.key`, the key readable for its owner alone.
    ///
    /// Errors: a file exists and `existing` says to keep it; neither has been changed then.
    pub fn write(&self, cert: &Path, key: &Path, existing: Existing) -> Result<(), PkiError> {
        if existing == Existing::Keep
            && let Some(path) = [cert, key].into_iter().find(|path| path.exists())
        {
            return Err(PkiError::Exists { path: path.to_owned() });
        }
        write(key, &self.key_pem, KEY_MODE, existing)?;
        write(cert, &self.cert_pem, CERT_MODE, existing)
    }
}

/// What becomes of a file that is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Keep,
    /// It is replaced as a whole.
    Replace,
}

/// A CA that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    own: Issued,
}

impl fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new CA of this name, good for so many days.
    pub fn create(name: &str, days: u32) -> Result<Authority, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = params(name, i64::from(days))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(&key)?;
        let own = issued(&params, certificate.pem(), &key);
        Ok(Authority { issuer: Issuer::new(params, key), own })
    }

    /// A CA from its PEM forms. Errors: they are none.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Authority, PkiError> {
        let refused = |error: rcgen::Error| PkiError::Authority { why: error.to_string() };
        let key = KeyPair::from_pem(key_pem).map_err(refused)?;
        let own = Issued {
            cert_pem: cert_pem.to_owned(),
            key_pem: key.serialize_pem(),
            serial: Vec::new(),
        };
        let public = key.public_key_raw().to_vec();
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key).map_err(refused)?;
        let certificate = CertificateDer::from_pem_slice(cert_pem.as_bytes());
        let belongs = certificate.is_ok_and(|der| {
            X509Certificate::from_der(&der).is_ok_and(|(_, certificate)| {
                certificate.public_key().subject_public_key.data.as_ref() == public
            })
        });
        if !belongs {
            let why = "its key does not belong to its certificate".to_owned();
            return Err(PkiError::Authority { why });
        }
        Ok(Authority { issuer, own })
    }

    /// Its own certificate and key.
    pub fn own(&self) -> &Issued {
        &self.own
    }

    /// Signs a new certificate.
    ///
    /// Errors: a host that is none.
    pub fn issue(&self, wanted: &Wanted) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        let params = leaf(wanted)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(issued(&params, certificate.pem(), &key))
    }

    /// A list of certificates that are no longer good, in PEM form. Serials are those of
    /// [`Issued::serial`].
    pub fn revoke(&self, serials: &[&[u8]]) -> Result<String, PkiError> {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: now - BACKDATE,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - BACKDATE,
            next_update: now + Duration::from_secs(24 * 60 * 60 * u64::from(DAYS_DEFAULT)),
            crl_number: SerialNumber::from(u64::try_from(now.unix_timestamp()).unwrap_or(1)),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

/// A certificate that signs itself: it says that both ends hold the key, and not who they are.
///
/// Errors: a host that is none.
pub(crate) fn self_signed(wanted: &Wanted) -> Result<Issued, PkiError> {
    let key = KeyPair::generate()?;
    let params = leaf(wanted)?;
    let certificate = params.self_signed(&key)?;
    Ok(issued(&params, certificate.pem(), &key))
}

fn issued(params: &CertificateParams, cert_pem: String, key: &KeyPair) -> Issued {
    let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
    Issued { cert_pem, key_pem: key.serialize_pem(), serial }
}

fn params(name: &str, days: i64) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    let end = now + time::Duration::days(days);
    // One that has expired was good once, for the time that a usual one is.
    params.not_before = (now - BACKDATE).min(end - BACKDATE);
    params.not_after = end;
    let mut serial = crate::identity::random().map_err(|error| PkiError::Make {
        why: format!("the system gives no random number: {error}"),
    })?;
    serial >>= 1; // Positive, in eight bytes.
    params.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()));
    Ok(params)
}

fn leaf(wanted: &Wanted) -> Result<CertificateParams, PkiError> {
    let mut params = params(&wanted.name, wanted.days.into())?;
    let bad = |host: &String| PkiError::Host { host: host.clone() };
    for host in &wanted.hosts {
        let names = CertificateParams::new(vec![host.clone()]).map_err(|_| bad(host))?;
        if host.is_empty()
            || host.contains([' ', '/', ':']) && host.parse::<std::net::IpAddr>().is_err()
        {
            return Err(bad(host));
        }
        params.subject_alt_names.extend(names.subject_alt_names);
    }
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match wanted.purpose {
        Purpose::Member => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    Ok(params)
}

fn write(path: &Path, text: &str, mode: u32, existing: Existing) -> Result<(), PkiError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists { path: path.to_owned() },
        _ => PkiError::Io { path: path.to_owned(), error },
    };
    if existing == Existing::Keep {
        return put(path, text, mode).map_err(failed);
    }
    // Whoever reads the file sees the old one or the new one, and no half.
    let aside = path.with_extension("new");
    match fs::remove_file(&aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    put(&aside, text, mode).and_then(|()| fs::rename(&aside, path)).map_err(failed)
}

fn put(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_ca_can_be_kept_as_text_and_signs_alike() {
        let authority = Authority::create("quorate CA", 10).expect("a CA");
        let again = Authority::load(authority.own().cert_pem(), authority.own().key_pem());
        let issued = again.expect("the same CA").issue(&Wanted::client("root")).expect("signed");
        assert!(issued.cert_pem().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(!format!("{issued:?} {authority:?}").contains("PRIVATE KEY"));
        assert!(matches!(Authority::load("x", "y"), Err(PkiError::Authority { .. })));
        let other = Authority::create("quorate CA", 10).expect("another CA");
        let mixed = Authority::load(authority.own().cert_pem(), other.own().key_pem());
        assert!(mixed.expect_err("mixed").to_string().contains("does not belong"));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let authority = Authority::create("CA", 10).expect("a CA");
        for host in ["", "a b", "http://a", "a:1"] {
            let refused = authority.issue(&Wanted::member("m", &[host]));
            assert!(matches!(refused, Err(PkiError::Host { .. })), "{host:?}");
        }
        for host in ["localhost", "::1", "10.1.2.3", "*.example.com"] {
            authority.issue(&Wanted::member("m", &[host])).expect(host);
        }
    }

    #[test]
    fn files_are_private_and_nothing_is_overwritten_unasked() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = (dir.path().join("a.crt"), dir.path().join("a.key"));
        let authority = Authority::create("CA", 10).expect("a CA");
        authority.own().write(&cert, &key, Existing::Keep).expect("written");
        let mode = fs::metadata(&key).expect("the key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = fs::read(&key).expect("the key");
        let other = authority.issue(&Wanted::client("c")).expect("signed");
        let refused = other.write(&cert, &key, Existing::Keep).expect_err("it is there");
        assert!(refused.to_string().contains("--force"), "{refused}");
        assert_eq!(fs::read(&key).expect("the key"), before);
        other.write(&cert, &key, Existing::Replace).expect("replaced");
        assert_ne!(fs::read(&key).expect("the key"), before);
        let mode = fs::metadata(&key).expect("the key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
