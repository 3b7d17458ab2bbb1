//! Who is this member, before it runs? From its directory, from its flags, or from the cluster.
//!
//! | directory | `--initial-cluster-state` | |
//! |---|---|---|
//! | has an identity | `new` | the flags must describe the same seat: directories get mixed up |
//! | has an identity | `existing` | the directory is believed: flags change as members do |
//! | has none | `new` | a seat of the first configuration, as the flags say |
//! | has none | `existing` | the members of `--initial-cluster` are asked |
//!
//! A directory whose member was removed says so, and is refused for ever.

use crate::config::{ClusterState, Config, member_id};
use crate::genesis::Genesis;
use crate::identity::{Identity, IdentityError};
use crate::peers::join::{self, Joined};
use crate::run::RunError;
use crate::tls::Secured;
use crate::url::Url;
use quorate_replica::members::Members;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// For so long the members are asked again: they may not know yet that this one was added.
const JOIN_PATIENCE: Duration = Duration::from_secs(15);
/// Between two rounds of questions.
const JOIN_PAUSE: Duration = Duration::from_millis(300);

/// Who this member is.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) identity: Identity,
    pub(crate) genesis: Genesis,
    /// The members, as far as is known before the log is read.
    pub(crate) members: Members,
}

/// Finds out who this member is, and writes it down.
///
/// Errors: see [`RunError`].
pub(crate) async fn admit(
    config: &Config,
    dir: &Path,
    tls: Option<&Secured>,
) -> Result<Admission, RunError> {
    match Identity::read(dir)? {
        Some(identity) => returning(config, dir, identity),
        None if config.force_new_cluster => Err(RunError::NothingToForce),
        None => match config.initial_cluster_state {
            ClusterState::New => founding(config, dir),
            ClusterState::Existing => joining(config, dir, tls).await,
        },
    }
}

fn returning(config: &Config, dir: &Path, identity: Identity) -> Result<Admission, RunError> {
    if identity.removed {
        let dir = dir.display();
        return Err(RunError::Removed {
            why: format!(
                "the member of {dir} ({:x}) was removed from cluster {:x} and takes no part any \
                 more. To bring this host back, add it as a new member ('quorate member add NAME \
                 --peer-urls=URL') with an empty --data-dir",
                identity.member, identity.cluster
            ),
        });
    }
    let configured = (config.cluster_id(), config.member_id());
    let is_as_configured = (identity.cluster, identity.member) == configured;
    // The others in --initial-cluster may be those of today: with its data a member needs them not.
    let is_same_seat = identity.member == configured.1
        || identity.member == reborn(config, identity.cluster)
        || config.initial_cluster_state == ClusterState::Existing;
    let genesis = match Genesis::read(dir).map_err(io(dir, "genesis"))? {
        Some(genesis) if is_same_seat => genesis,
        None if is_as_configured => {
            let genesis = Genesis::of(config);
            genesis.write(dir).map_err(io(dir, "genesis"))?;
            genesis
        }
        _ => return Err(identity.foreign(dir, configured).into()),
    };
    let members = genesis.members.clone();
    Ok(Admission { identity, genesis, members })
}

/// The id of this member in a cluster that was made from a backup (`rebirth.rs`).
fn reborn(config: &Config, cluster: u64) -> u64 {
    member_id(&config.initial_cluster_token, &config.initial_advertise_peer_urls, cluster)
}

fn founding(config: &Config, dir: &Path) -> Result<Admission, RunError> {
    config.verify_bootstrap().map_err(RunError::Config)?;
    let identity = Identity::open(dir, config.cluster_id(), config.member_id())?;
    let genesis = Genesis::of(config);
    genesis.write(dir).map_err(io(dir, "genesis"))?;
    let members = genesis.members.clone();
    Ok(Admission { identity, genesis, members })
}

async fn joining(
    config: &Config,
    dir: &Path,
    tls: Option<&Secured>,
) -> Result<Admission, RunError> {
    let Joined { member, genesis, members } = ask_around(config, tls).await?;
    tracing::info!("joining cluster {:x} as member {member:x}", genesis.cluster);
    fs::create_dir_all(dir).map_err(io(dir, ""))?;
    genesis.write(dir).map_err(io(dir, "genesis"))?;
    let identity = Identity::open(dir, genesis.cluster, member)?;
    Ok(Admission { identity, genesis, members })
}

/// Asks the members of `--initial-cluster`, one after the other, until one knows us.
async fn ask_around(config: &Config, tls: Option<&Secured>) -> Result<Joined, RunError> {
    let own = &config.initial_advertise_peer_urls;
    let texts: Vec<String> = own.iter().map(Url::to_string).collect();
    let others = || config.initial_cluster.values().flatten().filter(|url| !own.contains(url));
    let deadline = Instant::now() + JOIN_PATIENCE;
    let mut refused = None;
    loop {
        for url in others() {
            match join::ask(url, tls, &texts).await {
                Ok(joined) => return Ok(joined),
                Err(crate::peers::PeerError::Refused { why }) => refused = Some(why),
                Err(error) => tracing::debug!(%url, %error, "a member did not answer"),
            }
        }
        if Instant::now() >= deadline || others().next().is_none() {
            return Err(match refused {
                Some(why) => RunError::JoinRefused { why },
                None => RunError::NobodyToJoin,
            });
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
}

fn io(dir: &Path, file: &str) -> impl FnOnce(std::io::Error) -> RunError {
    let path = dir.join(file);
    move |error| RunError::Identity(IdentityError::Io { path, error })
}
