//! `quorate import`: from etcd to here, by a file or while it runs.

use super::follow::Follow;
use super::seat::SeatFlags;
use super::source::{Bar, SourceFlags};
use super::{BackupError, Done, Part};
use crate::client;
use crate::login::Login;
use clap::Args;
use quorate_server::saved::{self, Maker, Saved};
use serde_json::json;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  etcdctl snapshot save etcd.db
  quorate import etcd.db --name m1 --data-dir /var/lib/quorate \\
      --initial-cluster m1=http://a:2380 --initial-advertise-peer-urls http://a:2380
  quorate import /var/lib/etcd/member/snap/db --data-dir m1.etcd    of an etcd that was stopped
  quorate import --from etcd:2379 --data-dir m1.etcd                the snapshot is taken, too
  quorate import --follow etcd:2379 --endpoints a:2379              keep up with it while it runs
  quorate import --follow etcd:2379 --endpoints a:2379 --until-caught-up

A file brings every revision that is not compacted, leases, users and roles; leases begin their time
anew, alarms stay behind. --follow brings keys, values and leases, in order, and compares them at
the end of --until-caught-up.
Exit status: 0 done, 1 the copy differs, 2 nothing was done, or it cannot go on.";

/// The flags of `quorate import`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// A snapshot of etcd, or its database
    #[arg(required_unless_present_any = ["from", "follow"])]
    #[arg(conflicts_with_all = ["from", "follow"])]
    file: Option<PathBuf>,
    /// Take a snapshot of this running etcd
    #[arg(long, value_name = "HOST:PORT,..", conflicts_with = "follow")]
    from: Option<String>,
    /// Copy from this running etcd to the members at --endpoints, and keep up with it
    #[arg(long, value_name = "HOST:PORT,..")]
    follow: Option<String>,
    /// With --follow: end when all is there, and compare
    #[arg(long, requires = "follow")]
    until_caught_up: bool,
    /// With --follow: where is kept how far it is [default: quorate-import-CLUSTER.json]
    #[arg(long, value_name = "FILE", requires = "follow")]
    state: Option<PathBuf>,
    /// With --follow: there may be keys already
    #[arg(long, requires = "follow")]
    merge: bool,
    /// Log in there as this user [env: QUORATE_FROM_USER]
    #[arg(long, value_name = "NAME:PASSWORD", env = "QUORATE_FROM_USER", hide_env = true)]
    #[arg(hide_env_values = true)]
    from_user: Option<String>,
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten, next_help_heading = "The new member, of a file or --from")]
    seat: SeatFlags,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn run(&self) -> Result<Done, BackupError> {
        let theirs = self.from_user.as_deref().map(Login::of).transpose();
        let theirs = theirs.map_err(BackupError::Login)?;
        if let Some(follow) = &self.follow {
            return self.follow(follow, theirs.as_ref());
        }
        let config = self.seat.config()?;
        let saved = match (&self.file, &self.from) {
            (Some(file), _) => saved::read(file)?,
            (None, Some(from)) => self.fetched(from, theirs.as_ref(), &config.data_dir)?,
            (None, None) => unreachable!("one of them is required"),
        };
        if saved.maker != Maker::Etcd {
            return Err(BackupError::Usage(
                "this is a snapshot of quorate, not of etcd: 'quorate snapshot restore' takes it"
                    .to_owned(),
            ));
        }
        let alarms = saved.alarms;
        let mut done = self.seat.create(&config, saved.store, saved.revision)?;
        if alarms > 0 {
            done.lines.push(format!("left behind: {alarms} alarms, of members of the old cluster"));
        }
        done.json["alarms_left_behind"] = json!(alarms);
        Ok(done)
    }

    /// The state of a running etcd, by way of a file beside the directory that is to be.
    fn fetched(
        &self,
        from: &str,
        login: Option<&Login>,
        beside: &Path,
    ) -> Result<Saved, BackupError> {
        let mut name = beside.as_os_str().to_owned();
        name.push(".snapshot");
        let mut fetched = Part::create(Path::new(&name))?;
        let source = self.source.source_at(from, login)?;
        let part = fetched.part.clone();
        client::block_on(source.fetch(&mut fetched.output, &part, Bar::unless(self.json)))?;
        Ok(saved::read(&fetched.part)?)
    }

    fn follow(&self, follow: &str, theirs: Option<&Login>) -> Result<Done, BackupError> {
        let ours = self.source.login()?;
        let plan = Follow {
            from: self.source.source_at(follow, theirs)?,
            to: self.source.source(ours.as_ref())?,
            state: self.state.clone(),
            until_caught_up: self.until_caught_up,
            merge: self.merge,
            json: self.json,
        };
        client::block_on(plan.run())
    }
}
