//! Whose certificate a request came with.
//!
//! Every request that comes over TLS with a client certificate carries this among its extensions.
//! The certificate has been verified then: signed by the trusted CA, valid when the connection
//! began, not revoked, of an allowed name.

use crate::tls::Facts;
use std::net::IpAddr;
use std::sync::Arc;

/// The certificate of a client. Cheap to clone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificate(Arc<Facts>);

impl ClientCertificate {
    /// What the client of a session has shown; `None` if it was not asked to.
    pub(super) fn of(session: &rustls::ServerConnection) -> Option<ClientCertificate> {
        let certificate = session.peer_certificates()?.first()?;
        Facts::of(certificate).ok().map(|facts| ClientCertificate(Arc::new(facts)))
    }

    /// The CommonName of its subject: the user who it stands for. Empty if it has none.
    pub fn common_name(&self) -> &str {
        &self.0.common_name
    }

    /// Host names that it is good for.
    pub fn dns_names(&self) -> &[String] {
        &self.0.dns_names
    }

    /// Addresses that it is good for.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.0.addresses
    }
}
