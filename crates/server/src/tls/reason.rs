//! Why a handshake failed, in words that say what to do, and as a label of a metric.
//!
//! The library's words are made for programmers ("invalid peer certificate: UnknownIssuer"); who
//! reads the log of a member at night wants to know which file to look at.

use super::files::moment;
use super::names::Denied;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use std::fmt;
use std::io;

/// Why, as the metric tells it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Reason {
    /// No TLS at all.
    Plaintext,
    /// No certificate was shown.
    NoCertificate,
    /// It has expired.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// Another CA.
    UnknownCa,
    /// On the revocation list.
    Revoked,
    /// Its name is not allowed, or not that of the host.
    Name,
    /// The certificate is no good for another reason.
    Certificate,
    /// The other side refused ours.
    Refused,
    /// Nothing in common: versions, suites.
    Incompatible,
    /// It took too long.
    Slow,
    /// Too many were under way.
    Crowded,
    /// The connection ended.
    HungUp,
    /// The bytes make no sense.
    Protocol,
}

impl Reason {
    /// All, for counters.
    pub(crate) const ALL: [Reason; 14] = [
        Reason::Plaintext,
        Reason::NoCertificate,
        Reason::Expired,
        Reason::NotYetValid,
        Reason::UnknownCa,
        Reason::Revoked,
        Reason::Name,
        Reason::Certificate,
        Reason::Refused,
        Reason::Incompatible,
        Reason::Slow,
        Reason::Crowded,
        Reason::HungUp,
        Reason::Protocol,
    ];

    /// The label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Reason::Plaintext => "plaintext",
            Reason::NoCertificate => "no_certificate",
            Reason::Expired => "expired",
            Reason::NotYetValid => "not_yet_valid",
            Reason::UnknownCa => "unknown_ca",
            Reason::Revoked => "revoked",
            Reason::Name => "name",
            Reason::Certificate => "certificate",
            Reason::Refused => "refused",
            Reason::Incompatible => "incompatible",
            Reason::Slow => "slow",
            Reason::Crowded => "crowded",
            Reason::HungUp => "hung_up",
            Reason::Protocol => "protocol",
        }
    }
}

/// A handshake that failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// As a label.
    pub(crate) reason: Reason,
    /// In words. The other side is "it".
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(reason: Reason, text: impl Into<String>) -> Failure {
        Failure { reason, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(inner) => Failure::from(inner),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                Failure::new(Reason::HungUp, "it closed the connection during the TLS handshake")
            }
            None => Failure::new(Reason::HungUp, format!("the connection broke: {error}")),
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        match error {
            Error::InvalidCertificate(why) => certificate(why),
            Error::NoCertificatesPresented => Failure::new(
                Reason::NoCertificate,
                "it showed no certificate, and one signed by the trusted CA is required",
            ),
            Error::AlertReceived(alert) => alerted(*alert),
            Error::InvalidMessage(_) => Failure::new(Reason::Plaintext, "it does not speak TLS"),
            Error::InvalidCertRevocationList(why) => Failure::new(
                Reason::Certificate,
                format!("the revocation list cannot be used: {why:?}"),
            ),
            Error::PeerIncompatible(why) => Failure::new(
                Reason::Incompatible,
                format!("no version, suite or scheme of TLS in common: {}", incompatible(why)),
            ),
            Error::NoApplicationProtocol => {
                Failure::new(Reason::Incompatible, "it speaks neither h2 nor http/1.1 (ALPN)")
            }
            other => Failure::new(Reason::Protocol, format!("the TLS handshake failed: {other}")),
        }
    }
}

fn certificate(why: &CertificateError) -> Failure {
    match why {
        CertificateError::Expired => Failure::new(Reason::Expired, "its certificate has expired"),
        CertificateError::ExpiredContext { not_after, .. } => {
            let until = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX);
            let text = format!("its certificate has expired: good until {}", moment(until));
            Failure::new(Reason::Expired, text)
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Failure::new(
                Reason::NotYetValid,
                "its certificate is not valid yet; compare the clocks of both machines",
            )
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Failure::new(
            Reason::UnknownCa,
            "its certificate is signed by an unknown authority, not by the trusted CA",
        ),
        CertificateError::Revoked => Failure::new(
            Reason::Revoked,
            "its certificate has been revoked: it is on the revocation list",
        ),
        CertificateError::NotValidForName => {
            Failure::new(Reason::Name, "its certificate is not good for the name that was dialled")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let text = format!(
                "its certificate is good for {}, not for {}, which was dialled",
                listed(presented),
                expected.to_str()
            );
            Failure::new(Reason::Name, text)
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Failure::new(
                Reason::Certificate,
                "its certificate is made for another purpose: who calls needs the extended key \
             usage clientAuth, who serves needs serverAuth, members need both",
            )
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<Denied>() {
            Some(denied) => {
                Failure::new(Reason::Name, format!("its certificate is refused: {denied}"))
            }
            None => Failure::new(Reason::Certificate, authority_as_leaf(&other.0.to_string())),
        },
        other => Failure::new(Reason::Certificate, format!("its certificate is no good: {other}")),
    }
}

/// The one mistake of this kind that is common.
fn authority_as_leaf(text: &str) -> String {
    if text.contains("CaUsedAsEndEntity") {
        return "its certificate is that of a CA (CA:TRUE); let the CA sign another one for it"
            .to_owned();
    }
    format!("its certificate is no good: {text}")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}

fn incompatible(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::Tls12NotOffered => "it does not offer TLS 1.2".to_owned(),
        PeerIncompatible::Tls13RequiredForQuic | PeerIncompatible::Tls12NotOfferedOrEnabled => {
            "it does not offer a version that is spoken here".to_owned()
        }
        PeerIncompatible::SupportedVersionsExtensionRequired => {
            "it does not offer TLS 1.3".to_owned()
        }
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite in common".to_owned(),
        other => format!("{other:?}"),
    }
}

/// What the other side holds against us.
fn alerted(alert: AlertDescription) -> Failure {
    let text = match alert {
        AlertDescription::UnknownCA => "it does not know the CA of our certificate",
        AlertDescription::DecryptError => {
            "it does not know the CA of our certificate, but another one of the same name"
        }
        AlertDescription::CertificateExpired => "it says that our certificate has expired",
        AlertDescription::CertificateRevoked => "it says that our certificate has been revoked",
        AlertDescription::CertificateRequired => {
            "it requires a certificate of ours, and we showed none"
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => {
            "it refuses our certificate (its name or CA); its log may say why"
        }
        AlertDescription::AccessDenied => "it denies us access",
        AlertDescription::ProtocolVersion => "it speaks no version of TLS that we do",
        AlertDescription::HandshakeFailure => "no cipher suite or certificate in common",
        other => return Failure::new(Reason::Refused, format!("it broke off: {other:?}")),
    };
    Failure::new(Reason::Refused, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn labels_are_unique() {
        let labels: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }

    #[test]
    fn an_error_of_the_library_is_found_in_that_of_the_stream() {
        let inner = Error::InvalidCertificate(CertificateError::Revoked);
        let failure = Failure::from(io::Error::new(io::ErrorKind::InvalidData, inner));
        assert_eq!(failure.reason, Reason::Revoked);
        let ended = Failure::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!(ended.reason, Reason::HungUp);
        let alert = Failure::from(&Error::AlertReceived(AlertDescription::UnknownCA));
        assert!(alert.to_string().contains("does not know the CA"), "{alert}");
    }
}
