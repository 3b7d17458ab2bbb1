//! The certificates of a local cluster with TLS, in its directory.
//!
//! ```text
//! DIR/pki/ca.crt, ca.key        made once           DIR/pki/n1.crt, n1.key ..   one per member
//! DIR/pki/client.crt, .key      for etcdctl and for our own commands; its CommonName is root
//! ```
//!
//! Whoever connects must show one: the cluster is as closed as a real one should be.

use crate::pki::{self, CA, Pair};
use crate::up::error::UpError;
use quorate_server::tls::pki::{CA_DAYS_DEFAULT, Existing, PkiError, Wanted};
use quorate_server::tls::{Client, ClientFiles, Verify};
use std::path::{Path, PathBuf};

/// The directory within that of the cluster.
pub(super) const DIR: &str = "pki";

/// The pair for clients.
const CLIENT: &str = "client";

/// The user that the client's certificate stands for.
const CLIENT_USER: &str = "root";

/// Where members serve.
const HOSTS: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// Where the certificates of a cluster lie.
#[derive(Clone, Debug)]
pub(super) struct Security(PathBuf);

impl Security {
    /// Of the cluster in that directory.
    pub(super) fn of(directory: &Path) -> Security {
        Security(directory.join(DIR))
    }

    /// Makes what is missing. Certificates of members and clients are made anew each time: they
    /// cost nothing, and none ends while its cluster is in use.
    pub(super) fn prepare(&self, members: &[String]) -> Result<(), UpError> {
        let made = || -> Result<(), PkiError> {
            let ca = Pair::of(&self.0, CA);
            if !ca.cert.exists() || !ca.key.exists() {
                pki::init(&self.0, "quorate up", CA_DAYS_DEFAULT, Existing::Replace)?;
            }
            for member in members {
                pki::issue(&self.0, &Wanted::member(member, &HOSTS), Existing::Replace)?;
            }
            let client = Wanted::client(CLIENT_USER);
            pki::issue_as(&self.0, CLIENT, &client, Existing::Replace)?;
            Ok(())
        };
        made().map_err(UpError::Pki)
    }

    /// The flags that a member needs besides.
    pub(super) fn flags(&self, member: &str) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.display().to_string();
        let (ours, ca) = (Pair::of(&self.0, member), text(Pair::of(&self.0, CA).cert));
        vec![
            ("cert-file", text(ours.cert.clone())),
            ("key-file", text(ours.key.clone())),
            ("trusted-ca-file", ca.clone()),
            ("client-cert-auth", "true".to_owned()),
            ("peer-cert-file", text(ours.cert)),
            ("peer-key-file", text(ours.key)),
            ("peer-trusted-ca-file", ca),
            ("peer-client-cert-auth", "true".to_owned()),
        ]
    }

    /// The flags of `etcdctl` and of our own commands.
    pub(super) fn client_flags(&self) -> String {
        let client = Pair::of(&self.0, CLIENT);
        format!(
            "--cacert={} --cert={} --key={}",
            Pair::of(&self.0, CA).cert.display(),
            client.cert.display(),
            client.key.display()
        )
    }

    /// How we ask the members ourselves.
    pub(super) fn client(&self) -> Result<Client, UpError> {
        let client = Pair::of(&self.0, CLIENT);
        let files = ClientFiles {
            ca: Some(Pair::of(&self.0, CA).cert),
            cert: Some(client.cert),
            key: Some(client.key),
            verify: Verify::Server,
        };
        Client::new(&files).map_err(UpError::Certificate)
    }
}
