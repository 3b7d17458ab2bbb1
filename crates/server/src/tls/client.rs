//! Calling over TLS: for peers, and for the commands that ask a cluster.

use super::files::{self, FileError};
use super::keeper::system;
use super::names::{Blind, Trust};
use super::policy::Policy;
use super::reason::{Failure, Reason};
use crate::url::Url;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// What a caller brings along and expects.
#[derive(Clone, Debug, Default)]
pub struct ClientFiles {
    /// Whose signature a server needs; those that the machine trusts, if none.
    pub ca: Option<PathBuf>,
    /// What we show, and
    pub cert: Option<PathBuf>,
    /// its key.
    pub key: Option<PathBuf>,
    /// Whether to look at the server's certificate.
    pub verify: Verify,
}

/// Whether a server's certificate is looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verify {
    /// It must be signed by a trusted CA and good for the host.
    #[default]
    Server,
    /// Anybody may answer. Bytes are encrypted, and it is not known for whom.
    Nothing,
}

/// Makes connections over TLS. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl fmt::Debug for Client {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the files. Errors: one of them is no good.
    pub fn new(files: &ClientFiles) -> Result<Client, FileError> {
        let Policy { provider, versions } = Policy::usual();
        let chain: Arc<dyn ServerCertVerifier> = match (&files.ca, files.verify) {
            (_, Verify::Nothing) => {
                Arc::new(Blind { provider: Arc::clone(&provider), trust: Trust::Anybody })
            }
            (None, Verify::Server) => system(Arc::clone(&provider)),
            (Some(path), Verify::Server) => {
                let roots = files::roots(path)?;
                let provider = Arc::clone(&provider);
                let chain = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
                chain.map_err(|error| {
                    files::malformed(path, "certificate of a CA", error.to_string())
                })?
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("all suites and versions go together")
            .dangerous()
            .with_custom_certificate_verifier(chain);
        let mut config = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => {
                let pair = files::pair(cert, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Client(Arc::new(config)))
    }

    #[cfg(test)]
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// A connection that stands.
    pub async fn connect(&self, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
        let config = Arc::clone(&self.0);
        let dial = service_fn(move |uri: Uri| dial(Arc::clone(&config), uri));
        endpoint.connect_with_connector(dial).await
    }

    /// A connection for HTTP/1.1 to a place.
    pub async fn http(&self, url: &Url) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + use<>> {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TcpStream::connect(url.authority()).await?;
        call(Arc::new(config), url.host(), stream).await.map_err(io::Error::other)
    }

    /// A connection that is made when it is first needed, and again when it breaks.
    ///
    /// Panics: outside a tokio runtime.
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        let config = Arc::clone(&self.0);
        let dial = service_fn(move |uri: Uri| dial(Arc::clone(&config), uri));
        endpoint.connect_with_connector_lazy(dial)
    }
}

async fn dial(
    config: Arc<ClientConfig>,
    uri: Uri,
) -> Result<TokioIo<TlsStream<TcpStream>>, io::Error> {
    let host = uri.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    let stream = call(config, bare, stream).await.map_err(io::Error::other)?;
    Ok(TokioIo::new(stream))
}

/// Shakes hands with `host` on a connection that stands.
pub(crate) async fn call(
    config: Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from(host.to_owned());
    let name =
        name.map_err(|_| Failure::new(Reason::Name, format!("\"{host}\" is no host name")))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        let failure = Failure::from(error);
        match failure.reason {
            Reason::Plaintext => {
                Failure::new(Reason::Plaintext, "it does not speak TLS on this port: write http://")
            }
            _ => failure,
        }
    })
}

/// As [`call`], within a time.
pub(crate) async fn call_within(
    limit: Duration,
    config: Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Failure> {
    timeout(limit, call(config, host, stream)).await.unwrap_or_else(|_| {
        Err(Failure::new(Reason::Slow, "it did not finish the TLS handshake in time"))
    })
}
