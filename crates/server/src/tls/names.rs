//! Who is let in: a chain to a trusted CA first, then the names that the operator allows.
//!
//! The chain, its dates and the revocation lists are judged by webpki; the names by us, inside the
//! handshake, so that a stranger never gets as far as a request. Whoever dials a peer holds it to
//! the same names as one that calls.
//!
//! Source: etcd `client/pkg/transport/listener.go` (baseConfig, AllowedCN, AllowedHostname).

use super::files::Facts;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;

/// The names that are let in.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// One of these as CommonName; empty for any.
    pub(super) common_names: Vec<String>,
    /// Good for one of these hosts; empty for any.
    pub(super) hosts: Vec<String>,
}

/// A certificate that a trusted CA has signed and whose name is not let in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Denied {
    /// Its CommonName is none of those.
    CommonName { found: String, allowed: Vec<String> },
    /// It is good for none of those hosts.
    Host { found: String, allowed: Vec<String> },
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::CommonName { found, allowed } => write!(
                f,
                "its CommonName \"{}\" is not allowed (allowed: {})",
                found.escape_default(),
                allowed.join(", ")
            ),
            Denied::Host { found, allowed } => write!(
                f,
                "it is good for no allowed host (allowed: {}; its names: {})",
                allowed.join(", "),
                found.escape_default()
            ),
        }
    }
}

impl std::error::Error for Denied {}

impl Names {
    fn judge(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if self.common_names.is_empty() && self.hosts.is_empty() {
            return Ok(());
        }
        let facts = Facts::of(certificate);
        let facts = facts.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if !self.common_names.is_empty() && !self.common_names.contains(&facts.common_name) {
            let allowed = self.common_names.clone();
            return Err(denied(Denied::CommonName { found: facts.common_name, allowed }));
        }
        if !self.hosts.is_empty() {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let good = |host: &String| {
                ServerName::try_from(host.as_str())
                    .is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
            };
            if !self.hosts.iter().any(good) {
                let allowed = self.hosts.clone();
                return Err(denied(Denied::Host { found: facts.names(), allowed }));
            }
        }
        Ok(())
    }
}

fn denied(why: Denied) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// Judges who calls.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) names: Names,
}

impl ClientCertVerifier for Callers {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(certificate, between, now)?;
        self.names.judge(certificate).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Judges whom we have called.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) chain: Arc<dyn ServerCertVerifier>,
    pub(super) names: Names,
}

impl ServerCertVerifier for Called {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chain.verify_server_cert(certificate, between, name, ocsp, now)?;
        self.names.judge(certificate).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Looks at no certificate: bytes are encrypted, and it is not known for whom.
#[derive(Debug)]
pub(super) struct Blind {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) trust: Trust,
}

/// Whom to take without looking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trust {
    /// Whoever answers: for `--peer-auto-tls`, and for clients that were told so.
    Anybody,
    /// Nobody: no CA is known.
    Nobody,
}

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.trust {
            Trust::Anybody => Ok(ServerCertVerified::assertion()),
            Trust::Nobody => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
