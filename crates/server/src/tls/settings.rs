//! What can be set about TLS, as plain values, and what contradicts itself.
//!
//! The meaning of each setting is etcd's: a trusted CA alone makes client certificates mandatory,
//! and allowed names are looked at only in certificates that a trusted CA has signed.
//!
//! Sources: etcd `client/pkg/transport/listener.go` (TLSInfo), `server/embed/config.go`,
//! `client/pkg/tlsutil`.

use super::policy::{self, TlsVersion};
use crate::config::Config;
use crate::url::Url;
use std::fmt;
use std::path::PathBuf;

/// Longest life of a certificate that a member makes for itself. Unit: years.
pub const SELF_SIGNED_YEARS_MAX: u32 = 100;

/// Everything about TLS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsConfig {
    /// Towards clients.
    pub client: Side,
    /// Towards peers.
    pub peer: Side,
    /// Suites of TLS 1.2 and 1.3 by their names in Go; empty for all that are supported.
    pub cipher_suites: Vec<String>,
    /// The oldest version that is spoken.
    pub version_min: TlsVersion,
    /// The newest version that is spoken.
    pub version_max: TlsVersion,
    /// Life of certificates that a member makes for itself. Unit: years. Range: from 1 to
    /// [`SELF_SIGNED_YEARS_MAX`].
    pub self_signed_years: u32,
}

impl Default for TlsConfig {
    fn default() -> TlsConfig {
        TlsConfig {
            client: Side::default(),
            peer: Side::default(),
            cipher_suites: Vec::new(),
            version_min: TlsVersion::Tls12,
            version_max: TlsVersion::Tls13,
            self_signed_years: 1,
        }
    }
}

/// Settings of one side: clients or peers. Paths are of PEM files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Side {
    /// Our certificate, followed by those between it and its CA.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// What we show when we dial, if it is not the same.
    pub dial_cert_file: Option<PathBuf>,
    /// Its key.
    pub dial_key_file: Option<PathBuf>,
    /// Whose signature we trust. If given, who connects must show a certificate.
    pub trusted_ca_file: Option<PathBuf>,
    /// Certificates that are no longer good.
    pub crl_file: Option<PathBuf>,
    /// Who connects must show a certificate.
    pub client_cert_auth: bool,
    /// Only certificates with one of these common names; empty for all.
    pub allowed_cn: Vec<String>,
    /// Only certificates that are good for one of these hosts; empty for all.
    pub allowed_hostname: Vec<String>,
    /// Make a certificate of our own.
    pub auto: bool,
    /// Do not compare the names in a caller's certificate with where it calls from. Only peers'
    /// ever are.
    pub skip_client_san_verification: bool,
}

impl Side {
    /// True if a certificate and its key are given.
    pub fn has_certificate(&self) -> bool {
        self.cert_file.is_some() && self.key_file.is_some()
    }

    /// True if it makes its own certificate, and nothing that was given takes its place.
    pub fn is_self_signed(&self) -> bool {
        self.auto && !self.has_certificate()
    }
}

/// The names of one side's flags.
struct Names {
    cert: &'static str,
    key: &'static str,
    dial_cert: &'static str,
    dial_key: &'static str,
    ca: &'static str,
    crl: &'static str,
    auth: &'static str,
    cn: &'static str,
    hostname: &'static str,
    auto: &'static str,
}

const CLIENT: Names = Names {
    cert: "cert-file",
    key: "key-file",
    dial_cert: "client-cert-file",
    dial_key: "client-key-file",
    ca: "trusted-ca-file",
    crl: "client-crl-file",
    auth: "client-cert-auth",
    cn: "client-cert-allowed-cn",
    hostname: "client-cert-allowed-hostname",
    auto: "auto-tls",
};

const PEER: Names = Names {
    cert: "peer-cert-file",
    key: "peer-key-file",
    dial_cert: "peer-client-cert-file",
    dial_key: "peer-client-key-file",
    ca: "peer-trusted-ca-file",
    crl: "peer-crl-file",
    auth: "peer-client-cert-auth",
    cn: "peer-cert-allowed-cn",
    hostname: "peer-cert-allowed-hostname",
    auto: "peer-auto-tls",
};

/// Settings about TLS that contradict each other or cannot work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TlsConfigError {
    /// One of two flags that need each other.
    Lonely {
        /// Name of the flag that was given.
        given: &'static str,
        /// Name of the flag that it needs.
        missing: &'static str,
    },
    /// A flag means nothing without a CA.
    NoCa {
        /// Name of the flag.
        flag: &'static str,
        /// Name of the flag that names a CA.
        ca: &'static str,
    },
    /// Two flags of which only one may be given.
    Exclusive {
        /// Name of a flag.
        one: &'static str,
        /// Name of the other.
        other: &'static str,
    },
    /// An https URL, and no certificate to serve it with.
    NoCertificate {
        /// Name of the flag with the URL.
        flag: &'static str,
        /// The URL.
        url: Url,
        /// Names of the flags that name a certificate and a key.
        pair: (&'static str, &'static str),
        /// Name of the flag that makes one.
        auto: &'static str,
    },
    /// A suite that we do not have.
    Suite {
        /// Its name as given.
        name: String,
        /// Why not.
        why: policy::Unfit,
    },
    /// Suites are chosen for TLS 1.2, which is not spoken.
    SuitesOfTls13,
    /// None of the chosen suites can be used with the versions spoken.
    NoSuite,
    /// The newest version is older than the oldest.
    Versions {
        /// The oldest.
        min: TlsVersion,
        /// The newest.
        max: TlsVersion,
    },
    /// The life of a certificate is out of its range.
    Years {
        /// As given.
        years: u32,
    },
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsConfigError::Lonely { given, missing } => {
                write!(f, "--{given} needs --{missing}; give both or neither")
            }
            TlsConfigError::NoCa { flag, ca } => write!(
                f,
                "--{flag} needs --{ca}: name the CA that signs the certificates of those who may \
                 connect"
            ),
            TlsConfigError::Exclusive { one, other } => {
                write!(f, "--{one} and --{other} are mutually exclusive; choose one")
            }
            TlsConfigError::NoCertificate { flag, url, pair: (cert, key), auto } => write!(
                f,
                "TLS key/cert (--{cert}, --{key}) must be provided for {url} of --{flag}; give \
                 both, or --{auto}, or write http://"
            ),
            TlsConfigError::Suite { name, why } => {
                write!(f, "--cipher-suites: {name}: {why}; choose from {}", policy::known_names())
            }
            TlsConfigError::SuitesOfTls13 => f.write_str(
                "cipher suites may not be configured when only TLS1.3 is enabled; leave \
                 --cipher-suites or --tls-min-version out",
            ),
            TlsConfigError::NoSuite => f.write_str(
                "--cipher-suites: none of them belongs to a version between --tls-min-version and \
                 --tls-max-version",
            ),
            TlsConfigError::Versions { min, max } => write!(
                f,
                "min version ({min}) is greater than max version ({max}); compare \
                 --tls-min-version and --tls-max-version"
            ),
            TlsConfigError::Years { years } => write!(
                f,
                "--self-signed-cert-validity={years} is out of range; write 1 to \
                 {SELF_SIGNED_YEARS_MAX} (years)"
            ),
        }
    }
}

impl std::error::Error for TlsConfigError {}

impl TlsConfig {
    /// Checks what can be judged without looking at the files.
    ///
    /// Errors: the first setting that cannot work.
    pub(crate) fn validate(&self, config: &Config) -> Result<(), TlsConfigError> {
        if self.version_min > self.version_max {
            let (min, max) = (self.version_min, self.version_max);
            return Err(TlsConfigError::Versions { min, max });
        }
        policy::Policy::of(self)?;
        if !(1..=SELF_SIGNED_YEARS_MAX).contains(&self.self_signed_years) {
            return Err(TlsConfigError::Years { years: self.self_signed_years });
        }
        check(&self.client, &CLIENT)?;
        check(&self.peer, &PEER)?;
        let listening = [
            ("listen-client-urls", &config.listen_client_urls, &self.client, &CLIENT),
            ("listen-metrics-urls", &config.listen_metrics_urls, &self.client, &CLIENT),
            ("listen-peer-urls", &config.listen_peer_urls, &self.peer, &PEER),
        ];
        for (flag, urls, side, names) in listening {
            let secure = urls.iter().find(|url| url.is_https());
            if let (Some(url), false) = (secure, side.has_certificate() || side.auto) {
                let (pair, auto) = ((names.cert, names.key), names.auto);
                return Err(TlsConfigError::NoCertificate { flag, url: url.clone(), pair, auto });
            }
        }
        Ok(())
    }

    /// What was given and changes nothing, in words for the log.
    pub(crate) fn without_effect(&self, config: &Config) -> Vec<String> {
        let mut notes = Vec::new();
        let sides = [
            (&self.client, &CLIENT, &config.listen_client_urls),
            (&self.peer, &PEER, &config.listen_peer_urls),
        ];
        for (side, names, urls) in sides {
            if side.auto && side.has_certificate() {
                notes.push(format!("ignoring --{}: --{} is given", names.auto, names.cert));
            }
            let given = side.has_certificate() || side.auto || side.trusted_ca_file.is_some();
            for url in urls.iter().filter(|url| given && !url.is_https()) {
                notes.push(format!(
                    "the scheme of {url} is http: certificates (--{}, --{}, --{}) do not protect \
                     it; write https://",
                    names.cert, names.ca, names.auto
                ));
            }
        }
        notes
    }
}

fn check(side: &Side, names: &Names) -> Result<(), TlsConfigError> {
    let pairs = [
        ((&side.cert_file, names.cert), (&side.key_file, names.key)),
        ((&side.dial_cert_file, names.dial_cert), (&side.dial_key_file, names.dial_key)),
    ];
    for ((cert, cert_flag), (key, key_flag)) in pairs {
        let (given, missing) = match (cert, key) {
            (Some(_), None) => (cert_flag, key_flag),
            (None, Some(_)) => (key_flag, cert_flag),
            _ => continue,
        };
        return Err(TlsConfigError::Lonely { given, missing });
    }
    let need_ca = [
        (side.client_cert_auth, names.auth),
        (side.crl_file.is_some(), names.crl),
        (!side.allowed_cn.is_empty(), names.cn),
        (!side.allowed_hostname.is_empty(), names.hostname),
    ];
    if side.trusted_ca_file.is_none()
        && let Some((_, flag)) = need_ca.iter().find(|(given, _)| *given)
    {
        return Err(TlsConfigError::NoCa { flag, ca: names.ca });
    }
    if !side.allowed_cn.is_empty() && !side.allowed_hostname.is_empty() {
        return Err(TlsConfigError::Exclusive { one: names.cn, other: names.hostname });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<PathBuf> {
        Some(PathBuf::from(text))
    }

    fn secured() -> Config {
        let urls = |text| Url::parse_list(text).expect(text);
        let mut config = Config {
            listen_client_urls: urls("https://127.0.0.1:1"),
            listen_peer_urls: urls("https://127.0.0.1:2"),
            ..Config::default()
        };
        for side in [&mut config.tls.client, &mut config.tls.peer] {
            side.cert_file = path("c");
            side.key_file = path("k");
        }
        config
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_what_to_do() {
        type Spoil = fn(&mut TlsConfig);
        let cases: [(Spoil, &str); 13] = [
            (|tls| tls.client.key_file = None, "--cert-file needs --key-file"),
            (|tls| tls.peer.cert_file = None, "--peer-key-file needs --peer-cert-file"),
            (|tls| tls.peer.dial_cert_file = path("c"), "needs --peer-client-key-file"),
            (|tls| tls.client = Side::default(), "(--cert-file, --key-file) must be provided for"),
            (|tls| tls.peer = Side::default(), "--peer-auto-tls, or write http://"),
            (|tls| tls.client.client_cert_auth = true, "--client-cert-auth needs --trusted-ca-"),
            (|tls| tls.client.crl_file = path("r"), "--client-crl-file needs"),
            (|tls| tls.peer.allowed_cn = vec!["x".into()], "--peer-cert-allowed-cn needs"),
            (|tls| tls.version_max = TlsVersion::Tls12, ""),
            (
                |tls| (tls.version_min, tls.version_max) = (TlsVersion::Tls13, TlsVersion::Tls12),
                "min version (TLS1.3) is greater than max version (TLS1.2)",
            ),
            (
                |tls| {
                    tls.version_min = TlsVersion::Tls13;
                    tls.cipher_suites = vec!["TLS_AES_128_GCM_SHA256".into()];
                },
                "may not be configured when only TLS1.3",
            ),
            (
                |tls| tls.cipher_suites = vec!["TLS_RSA_WITH_RC4_128_SHA".into()],
                "TLS_RSA_WITH_RC4_128_SHA: it is not safe",
            ),
            (|tls| tls.self_signed_years = 0, "write 1 to 100"),
        ];
        assert_eq!(secured().validate(), Ok(()));
        for (spoil, message) in cases {
            let mut config = secured();
            spoil(&mut config.tls);
            match config.validate() {
                Ok(()) => assert_eq!(message, ""),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!message.is_empty() && error.contains(message), "{error}");
                }
            }
        }
    }

    #[test]
    fn names_of_two_kinds_are_not_mixed() {
        let mut config = secured();
        config.tls.peer.trusted_ca_file = path("ca");
        config.tls.peer.allowed_cn = vec!["a".into()];
        assert_eq!(config.validate(), Ok(()));
        config.tls.peer.allowed_hostname = vec!["b".into()];
        let error = config.validate().expect_err("both").to_string();
        assert!(error.contains("mutually exclusive"), "{error}");
    }

    #[test]
    fn certificates_beside_plain_urls_are_told() {
        let mut config = secured();
        assert!(config.tls.without_effect(&config).is_empty());
        config.listen_client_urls = Url::parse_list("http://127.0.0.1:1").expect("a URL");
        config.tls.peer.auto = true;
        let notes = config.tls.without_effect(&config);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("http://127.0.0.1:1 is http"), "{notes:?}");
        assert!(notes[1].contains("ignoring --peer-auto-tls"), "{notes:?}");
    }
}
