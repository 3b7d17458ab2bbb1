//! Whom to ask for a copy: the first endpoint that answers.

use super::BackupError;
use crate::client::{self, Channel, Endpoint};
use crate::login::{Login, LoginFlags};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_server::proto::etcdserverpb::SnapshotRequest;
use quorate_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::time::Duration;

/// Largest message accepted: a response is not limited by the size of a request.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// The flags of commands that ask one member.
#[derive(Args, Debug)]
pub(super) struct SourceFlags {
    /// Whom to ask: the first that answers
    #[arg(long, global = true, value_name = "HOST:PORT,..")]
    #[arg(default_value = client::ENDPOINTS_DEFAULT)]
    endpoints: String,
    #[command(flatten)]
    security: client::Security,
    /// Seconds to wait for each answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    login: LoginFlags,
}

/// Who is asked.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// In this order.
    pub(crate) endpoints: Vec<Endpoint>,
    /// As whom, if as somebody.
    pub(crate) login: Option<&'a Login>,
    /// For each answer.
    pub(crate) timeout: Duration,
}

impl SourceFlags {
    /// As whom they ask.
    pub(super) fn login(&self) -> Result<Option<Login>, BackupError> {
        self.login.read().map_err(BackupError::Login)
    }

    /// Whom they ask.
    pub(super) fn source<'a>(&self, login: Option<&'a Login>) -> Result<Source<'a>, BackupError> {
        self.source_at(&self.endpoints, login)
    }

    /// The same, elsewhere.
    pub(super) fn source_at<'a>(
        &self,
        endpoints: &str,
        login: Option<&'a Login>,
    ) -> Result<Source<'a>, BackupError> {
        let endpoints = client::parse_endpoints(endpoints, &self.security);
        let endpoints = endpoints.map_err(BackupError::Endpoints)?;
        Ok(Source { endpoints, login, timeout: Duration::from_secs(self.timeout) })
    }
}

impl Source<'_> {
    /// A connection to the first endpoint that accepts one, logged in.
    ///
    /// Errors: [`BackupError::Unreachable`], [`BackupError::Refused`].
    pub(super) async fn connect(&self) -> Result<Channel, BackupError> {
        let mut tried = Vec::new();
        for endpoint in &self.endpoints {
            match client::connect_alert(endpoint).await {
                Ok(mut channel) => {
                    if let Some(login) = self.login {
                        let entered = login.enter_within(self.timeout, &mut channel).await;
                        entered.map_err(|status| BackupError::refused("the login", &status))?;
                    }
                    return Ok(channel);
                }
                Err(error) => tried.push((endpoint.authority(), client::root_cause(&error))),
            }
        }
        Err(BackupError::Unreachable { tried })
    }

    /// Writes the body of a snapshot; answers with its length, the digest at its end included.
    ///
    /// `file` is named in errors; `Bar::Shown` shows progress on a terminal.
    pub(super) async fn fetch(
        &self,
        output: &mut impl Write,
        file: &Path,
        shown: Bar,
    ) -> Result<u64, BackupError> {
        let channel = self.connect().await?;
        let refused = |status: tonic::Status| BackupError::refused("the snapshot", &status);
        let client = MaintenanceClient::new(channel);
        let mut client = client.max_decoding_message_size(MESSAGE_BYTES_MAX);
        let asked = tokio::time::timeout(self.timeout, client.snapshot(SnapshotRequest {})).await;
        let mut blobs = asked.map_err(|_| stalled())?.map_err(refused)?.into_inner();
        let (mut bar, mut received) = (None, 0);
        let outcome = loop {
            let next = tokio::time::timeout(self.timeout, blobs.message()).await;
            let blob = match next {
                Ok(Ok(Some(blob))) => blob,
                Ok(Ok(None)) => break Ok(received),
                Ok(Err(status)) => break Err(refused(status)),
                Err(_) => break Err(stalled()),
            };
            received += blob.blob.len() as u64;
            let bar = bar.get_or_insert_with(|| shown.of(received + blob.remaining_bytes));
            bar.set_position(received);
            if let Err(error) = output.write_all(&blob.blob) {
                break Err(BackupError::File { file: file.to_owned(), error });
            }
        };
        bar.inspect(ProgressBar::finish_and_clear);
        outcome
    }
}

fn stalled() -> BackupError {
    let message = "the stream has stopped; is the member overloaded? Try another".to_owned();
    BackupError::Refused { what: "the snapshot", message }
}

impl BackupError {
    /// A member said no, or nothing.
    pub(super) fn refused(what: &'static str, status: &tonic::Status) -> BackupError {
        BackupError::Refused { what, message: client::reason(status) }
    }
}

/// Whether progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Bar {
    /// If somebody looks.
    Shown,
    /// Not at all.
    Hidden,
}

impl Bar {
    /// Hidden from programs.
    pub(super) fn unless(is_json: bool) -> Bar {
        if is_json { Bar::Hidden } else { Bar::Shown }
    }

    fn of(self, bytes: u64) -> ProgressBar {
        if self == Bar::Hidden || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let template = "snapshot {bytes}/{total_bytes} {wide_bar} {bytes_per_sec} eta {eta}";
        let style = ProgressStyle::with_template(template).expect("a constant");
        let bar = ProgressBar::new(bytes).with_style(style);
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar
    }
}
