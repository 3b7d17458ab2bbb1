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

#[cfg(test)]
mod tests {
    use super::ClientCertificate;
    use crate::api::listen::serve;
    use crate::api::{Limits, Threads};
    use crate::config::Config;
    use crate::tls::pki::{Authority, Existing, Wanted};
    use crate::tls::{self, Client, ClientFiles, Listener};
    use crate::url::Url;
    use hyper::body::Incoming;
    use hyper::{Request, Response};
    use std::convert::Infallible;
    use std::future::pending;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tonic::body::Body;

    /// Tells callers who they are.
    async fn tell(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let certificate = request.extensions().get::<ClientCertificate>();
        let name = certificate.map(|certificate| certificate.common_name().to_owned());
        Ok(Response::new(Body::new(format!("name={name:?}"))))
    }

    fn pair(dir: &Path, ca: &Authority, file: &str, wanted: &Wanted) -> (PathBuf, PathBuf) {
        let (cert, key) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
        let issued = ca.issue(wanted).expect("a certificate");
        issued.write(&cert, &key, Existing::Replace).expect("two files");
        (cert, key)
    }

    /// What a server says of who shows that certificate, if callers need one of the CA or not.
    async fn told(shown: Option<&Wanted>, needs_one: bool) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = Authority::create("test CA", 1).expect("a CA");
        let trusted = dir.path().join("ca.crt");
        std::fs::write(&trusted, ca.own().cert_pem()).expect("a file");
        let (cert, key) = pair(dir.path(), &ca, "server", &Wanted::member("m", &["127.0.0.1"]));
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url: Url =
            format!("https://{}", tcp.local_addr().expect("bound")).parse().expect("a URL");
        let mut config = Config { listen_client_urls: vec![url.clone()], ..Config::default() };
        config.tls.client.cert_file = Some(cert);
        config.tls.client.key_file = Some(key);
        config.tls.client.trusted_ca_file = needs_one.then(|| trusted.clone());
        let gauges = Arc::default();
        let secured = tls::open(tls::Door::Client, &config, &[], &gauges, Vec::new());
        let tls = secured.expect("good files").expect("a URL says https").terminator;
        let listeners = vec![Listener { tcp, tls }];
        let limits = Limits::from(&config);
        let served =
            serve(tell, listeners, Threads::default(), limits, Arc::default(), pending::<()>());
        tokio::spawn(served);
        let mut files = ClientFiles { ca: Some(trusted), ..ClientFiles::default() };
        if let Some(wanted) = shown {
            let (cert, key) = pair(dir.path(), &ca, "client", wanted);
            (files.cert, files.key) = (Some(cert), Some(key));
        }
        let client = Client::new(&files).expect("good files");
        let mut stream = client.http(&url).await.expect("a connection");
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer.rsplit("\r\n\r\n").next().expect("a body").to_owned()
    }

    #[tokio::test]
    async fn a_request_says_whose_certificate_it_came_with() {
        let alice = Wanted::client("alice");
        assert_eq!(told(Some(&alice), true).await, "name=Some(\"alice\")");
        assert_eq!(told(Some(&Wanted::client("")), true).await, "name=Some(\"\")");
    }

    #[tokio::test]
    async fn what_nobody_asked_for_nobody_has_verified() {
        assert_eq!(told(Some(&Wanted::client("root")), false).await, "name=None");
        assert_eq!(told(None, false).await, "name=None");
    }
}
