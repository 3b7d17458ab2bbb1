//! Which TLS is spoken: versions and cipher suites, under the names that Go gives them.
//!
//! There is nothing here that a careful operator would have to switch off: suites without forward
//! secrecy or authenticated encryption, and versions before 1.2, are not even compiled in. So a
//! choice can only make the set smaller, and a name of something that is not there is refused
//! rather than ignored.
//!
//! Sources: Go `crypto/tls/cipher_suites.go` (names); etcd `client/pkg/tlsutil/cipher_suites.go`,
//! `versions.go`.

use super::settings::{TlsConfig, TlsConfigError};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, SupportedProtocolVersion, version};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsVersion::Tls12 => "TLS1.2",
            TlsVersion::Tls13 => "TLS1.3",
        })
    }
}

impl FromStr for TlsVersion {
    type Err = ();

    /// Reads a version as etcd writes it. Errors: anything but `TLS1.2` and `TLS1.3`.
    fn from_str(text: &str) -> Result<TlsVersion, ()> {
        match text {
            "TLS1.2" => Ok(TlsVersion::Tls12),
            "TLS1.3" => Ok(TlsVersion::Tls13),
            _ => Err(()),
        }
    }
}

/// Names in Go of what we have, and what they are. A suite may have two names.
const SUITES: [(&str, CipherSuite); 11] = [
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Marks of suites that Go knows and that are not safe enough to be here.
const UNSAFE_MARKS: [&str; 5] = ["_CBC_", "_RC4_", "TLS_RSA_WITH_", "_3DES_", "_NULL_"];

/// Why a suite cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// It has no forward secrecy or no authenticated encryption.
    Unsafe,
    /// Nobody has heard of it.
    Unknown,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfit::Unsafe => "it is not safe and not offered here",
            Unfit::Unknown => "unexpected TLS cipher suite",
        })
    }
}

/// Every name that can be given, for messages.
pub(super) fn known_names() -> String {
    SUITES.map(|(name, _)| name).join(", ")
}

/// What is spoken. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// The suites, with everything else that is computed.
    pub(super) provider: Arc<CryptoProvider>,
    /// At least one.
    pub(super) versions: &'static [&'static SupportedProtocolVersion],
}

impl Policy {
    /// Everything that we have.
    pub(super) fn usual() -> Policy {
        Policy { provider: Arc::new(ring::default_provider()), versions: BOTH }
    }

    /// Suites and versions of a configuration.
    ///
    /// As in Go, suites of TLS 1.3 are not chosen: all of them stay, whatever is named.
    /// Errors: a suite that we do not have, or none that is left.
    pub(super) fn of(config: &TlsConfig) -> Result<Policy, TlsConfigError> {
        let versions = match (config.version_min, config.version_max) {
            (TlsVersion::Tls12, TlsVersion::Tls12) => ONLY_12,
            (TlsVersion::Tls13, _) => ONLY_13,
            (TlsVersion::Tls12, TlsVersion::Tls13) => BOTH,
        };
        let mut provider = ring::default_provider();
        if !config.cipher_suites.is_empty() {
            if config.version_min == TlsVersion::Tls13 {
                return Err(TlsConfigError::SuitesOfTls13);
            }
            let chosen: Result<Vec<CipherSuite>, _> =
                config.cipher_suites.iter().map(|name| suite(name)).collect();
            let chosen = chosen?;
            provider
                .cipher_suites
                .retain(|have| have.tls13().is_some() || chosen.contains(&have.suite()));
        }
        let usable = |version: &&'static SupportedProtocolVersion| {
            provider.cipher_suites.iter().any(|suite| suite.version() == *version)
        };
        if !versions.iter().any(usable) {
            return Err(TlsConfigError::NoSuite);
        }
        // Only TLS 1.3 is left if no suite of TLS 1.2 was named.
        let versions = if versions.iter().all(usable) { versions } else { ONLY_13 };
        Ok(Policy { provider: Arc::new(provider), versions })
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
const ONLY_12: &[&SupportedProtocolVersion] = &[&version::TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&version::TLS13];

fn suite(name: &str) -> Result<CipherSuite, TlsConfigError> {
    let known = SUITES.iter().find(|(known, _)| *known == name);
    known.map(|(_, suite)| *suite).ok_or_else(|| {
        let marked = UNSAFE_MARKS.iter().any(|mark| name.contains(mark));
        let why = if marked { Unfit::Unsafe } else { Unfit::Unknown };
        TlsConfigError::Suite { name: name.to_owned(), why }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(suites: &[&str]) -> TlsConfig {
        let cipher_suites = suites.iter().map(|name| (*name).to_owned()).collect();
        TlsConfig { cipher_suites, ..TlsConfig::default() }
    }

    #[test]
    fn every_name_leads_to_a_suite_that_we_have_and_none_is_without_a_name() {
        let have = ring::default_provider().cipher_suites;
        for (name, suite) in SUITES {
            assert!(have.iter().any(|have| have.suite() == suite), "{name}");
        }
        for suite in have {
            assert!(SUITES.iter().any(|(_, named)| *named == suite.suite()), "{suite:?}");
        }
    }

    #[test]
    fn a_choice_restricts_tls_12_and_leaves_tls_13_alone() {
        let chosen = config(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]);
        let policy = Policy::of(&chosen).expect("a choice");
        let of_12: Vec<_> =
            policy.provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).collect();
        assert_eq!(of_12.len(), 1, "{of_12:?}");
        assert_eq!(policy.provider.cipher_suites.len(), 4);
        assert_eq!(policy.versions.len(), 2);
        let only_new = Policy::of(&config(&["TLS_AES_128_GCM_SHA256"])).expect("TLS 1.3 is left");
        assert_eq!(only_new.versions, ONLY_13);
        let none =
            TlsConfig { version_max: TlsVersion::Tls12, ..config(&["TLS_AES_128_GCM_SHA256"]) };
        assert_eq!(Policy::of(&none).expect_err("nothing is left"), TlsConfigError::NoSuite);
    }

    #[test]
    fn names_that_are_not_here_are_told_apart() {
        let refusal = |name: &str| Policy::of(&config(&[name])).expect_err(name).to_string();
        assert!(refusal("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA").contains("not safe"));
        let unknown = refusal("TLS_MADE_UP");
        assert!(unknown.contains("unexpected TLS cipher suite"), "{unknown}");
        assert!(unknown.contains("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), "{unknown}");
    }
}
