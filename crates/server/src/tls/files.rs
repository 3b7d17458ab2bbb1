//! Certificates, keys and revocation lists as they lie on disk.
//!
//! What is wrong with a file is said with its path, and never with what it holds: a key must not
//! reach a log. Files are read whole, up to [`FILE_BYTES_MAX`].

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The largest file that is read: a revocation list of some 100,000 certificates. Unit: bytes.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 20;

/// What is wrong with a file.
#[derive(Debug)]
pub enum FileError {
    /// It cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// It is larger than [`FILE_BYTES_MAX`].
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It holds no PEM block of the kind wanted.
    Empty {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// It holds something that cannot be understood.
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
        /// In what it fails, without its contents.
        why: String,
    },
    /// The key is encrypted, and there is nobody to ask for the password.
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind that is not supported.
    KeyKind {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together.
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Read { path, error } => {
                write!(f, "cannot read {}: {error}", path.display())
            }
            FileError::TooLarge { path } => write!(
                f,
                "{} is larger than {} MiB; is it the right file?",
                path.display(),
                FILE_BYTES_MAX >> 20
            ),
            FileError::Empty { path, wanted } => {
                write!(f, "{} holds no {wanted} in PEM form", path.display())
            }
            FileError::Malformed { path, wanted, why } => {
                write!(f, "{} holds no valid {wanted}: {why}", path.display())
            }
            FileError::Encrypted { path } => write!(
                f,
                "the key in {} is encrypted; write it without a password, readable for its owner \
                 alone",
                path.display()
            ),
            FileError::KeyKind { path } => write!(
                f,
                "the key in {} is of a kind that is not supported; use ECDSA P-256 or P-384, \
                 Ed25519, or RSA of 2048 bits or more",
                path.display()
            ),
            FileError::Mismatch { cert, key } => write!(
                f,
                "the key in {} does not belong to the certificate in {}; give both of one pair",
                key.display(),
                cert.display()
            ),
        }
    }
}

impl std::error::Error for FileError {}

/// What is looked for, in messages.
const CERTIFICATE: &str = "certificate";
const KEY: &str = "private key";
const CRL: &str = "certificate revocation list";

/// Contents of a file, up to the bound.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |error| FileError::Read { path: path.to_owned(), error };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// The certificates of a file, in order; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| pem(path, CERTIFICATE, &error))?;
    if found.is_empty() {
        return Err(FileError::Empty { path: path.to_owned(), wanted: CERTIFICATE });
    }
    Ok(found)
}

/// The key of a file.
fn key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let bytes = read(path)?;
    let mark = |mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    if mark(b"ENCRYPTED PRIVATE KEY") || mark(b"Proc-Type: 4,ENCRYPTED") {
        return Err(FileError::Encrypted { path: path.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| pem(path, KEY, &error))
}

/// A certificate with its key, ready for use.
pub(super) fn pair(
    cert: &Path,
    key_path: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, FileError> {
    let chain = certificates(cert)?;
    Facts::of(&chain[0]).map_err(|why| malformed(cert, CERTIFICATE, why))?;
    let key = key(key_path)?;
    let signer = provider.key_provider.load_private_key(key);
    let signer = signer.map_err(|_| FileError::KeyKind { path: key_path.to_owned() })?;
    let pair = CertifiedKey::new(chain, signer);
    match pair.keys_match() {
        // A kind of key that cannot say so is found out by the first handshake.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(pair))
        }
        Err(_) => Err(FileError::Mismatch { cert: cert.to_owned(), key: key_path.to_owned() }),
    }
}

/// The certificates of CAs, as roots of trust.
pub(super) fn roots(path: &Path) -> Result<Arc<RootCertStore>, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| malformed(path, "certificate of a CA", error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

/// Revocation lists: any number in PEM form, or one in DER form.
pub(super) fn revoked(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let bytes = read(path)?;
    if !bytes.starts_with(b"-----BEGIN") && bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| pem(path, CRL, &error))?;
    if found.is_empty() {
        return Err(FileError::Empty { path: path.to_owned(), wanted: CRL });
    }
    Ok(found)
}

/// Says which part of a file is no PEM, without repeating the part: it may be half a key.
fn pem(path: &Path, wanted: &'static str, error: &PemError) -> FileError {
    let why = match error {
        PemError::NoItemsFound => return FileError::Empty { path: path.to_owned(), wanted },
        PemError::MissingSectionEnd { .. } => "a PEM block has no end",
        PemError::IllegalSectionStart { .. } => "a PEM block has a malformed beginning",
        PemError::Base64Decode(_) => "a PEM block is no base64",
        PemError::SectionTooLarge => "a PEM block is too large",
        _ => "it cannot be read",
    };
    malformed(path, wanted, why.to_owned())
}

pub(super) fn malformed(path: &Path, wanted: &'static str, why: String) -> FileError {
    FileError::Malformed { path: path.to_owned(), wanted, why }
}

/// What is told of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Facts {
    /// That of its subject. Empty if it has none.
    pub(crate) common_name: String,
    /// Host names that it is good for.
    pub(crate) dns_names: Vec<String>,
    /// Addresses that it is good for.
    pub(crate) addresses: Vec<IpAddr>,
    /// Until when it is good. Unit: seconds since 1970.
    pub(crate) not_after: i64,
}

impl Facts {
    /// Reads a certificate. Errors: why it is none.
    pub(crate) fn of(der: &CertificateDer<'_>) -> Result<Facts, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "it is no X.509")?;
        // Of several the last, as in Go: under which name somebody is let in must not depend on
        // who asks.
        let common_name = certificate.subject().iter_common_name().last();
        let common_name = common_name.and_then(|name| name.as_str().ok()).unwrap_or_default();
        let mut facts = Facts {
            common_name: common_name.to_owned(),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            not_after: certificate.validity().not_after.timestamp(),
        };
        let names = certificate.subject_alternative_name();
        let names = names.map_err(|_| "its alternative names are malformed")?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => facts.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => facts.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(facts)
    }

    /// All names, for messages.
    pub(crate) fn names(&self) -> String {
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        let names: Vec<String> = self.dns_names.iter().cloned().chain(addresses).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// A moment as people read it. `seconds` since 1970.
pub(crate) fn moment(seconds: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => {
            format!("{} {:02}:{:02}:{:02} UTC", at.date(), at.hour(), at.minute(), at.second())
        }
        Err(_) => format!("{seconds} s after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pki::{Authority, Wanted};
    use rustls::crypto::ring::default_provider;
    use std::fs;

    #[test]
    fn moments_read_well() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(1_782_907_501), "2026-07-01 12:05:01 UTC");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_path_and_without_its_contents() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let authority = Authority::create("test", 1).expect("a CA");
        let one = authority.issue(&Wanted::member("a", &["127.0.0.1"])).expect("a certificate");
        let other = authority.issue(&Wanted::client("b")).expect("a certificate");
        let (mut cut, half) = (one.key_pem().to_owned(), one.key_pem().len() / 2);
        cut.truncate(half);
        let write = |name: &str, text: &str| fs::write(at(name), text).expect("a file");
        write("a.crt", one.cert_pem());
        write("a.key", one.key_pem());
        write("b.key", other.key_pem());
        write("cut.key", &cut);
        write("empty", "");
        write("words.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        write("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n");
        let provider = default_provider();
        let load = |cert: &str, key: &str| pair(&at(cert), &at(key), &provider);
        load("a.crt", "a.key").expect("a pair");
        let cases = [
            ("a.crt", "b.key", "b.key does not belong to the certificate in"),
            ("none", "a.key", "cannot read"),
            ("a.key", "a.key", "a.key holds no certificate in PEM form"),
            ("words.crt", "a.key", "words.crt holds no valid certificate: it is no X.509"),
            ("a.crt", "empty", "empty holds no private key in PEM form"),
            ("a.crt", "cut.key", "cut.key holds no valid private key: a PEM block has no end"),
            ("a.crt", "locked.key", "locked.key is encrypted"),
        ];
        for (cert, key, message) in cases {
            let error = load(cert, key).expect_err(message).to_string();
            assert!(error.contains(message), "{error}");
            let secret = one.key_pem().lines().nth(1).expect("a line of base64");
            assert!(!error.contains(&secret[..20]), "{error}");
        }
    }

    #[test]
    fn facts_of_a_certificate() {
        let authority = Authority::create("test", 1).expect("a CA");
        let hosts = ["m1.example", "10.0.0.1", "::1"];
        let issued = authority.issue(&Wanted::member("m1", &hosts)).expect("a certificate");
        let der = CertificateDer::from_pem_slice(issued.cert_pem().as_bytes()).expect("PEM");
        let facts = Facts::of(&der).expect("X.509");
        assert_eq!(facts.common_name, "m1");
        assert_eq!(facts.names(), "m1.example, 10.0.0.1, ::1");
    }

    #[test]
    fn of_several_common_names_the_last_counts() {
        let mut params = rcgen::CertificateParams::default();
        let mut subject = rcgen::DistinguishedName::new();
        subject.push(rcgen::DnType::CommonName, "root");
        subject.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]), "mallory");
        params.distinguished_name = subject;
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        assert_eq!(Facts::of(certificate.der()).expect("X.509").common_name, "mallory");
    }
}
