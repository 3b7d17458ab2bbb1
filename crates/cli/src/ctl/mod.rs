//! `quorate ctl`: keys, leases and upkeep from the command line.
//!
//! | file | question |
//! |---|---|
//! | `keys.rs` | which keys |
//! | `txn.rs` | the text form of a transaction |
//! | `watch.rs` | what changes |
//! | `lease.rs` | keys that vanish |
//! | `member.rs` | who the members are |
//! | `limit.rs` | what users and prefixes may take |
//! | `upkeep.rs` | compaction, alarms |
//! | `auth.rs` | users, roles, permissions |
//! | `conditions.rs` | locks that must be held, and writes that happen once |
//! | `call.rs` | which endpoint, and what a failure means |
//! | `print.rs` | what the answer looks like |

mod auth;
mod call;
mod conditions;
mod keys;
mod lease;
mod limit;
mod member;
mod print;
mod txn;
mod upkeep;
mod watch;

use crate::backup::{BackupError, Source};
use crate::client::{self, Endpoint, EndpointsError};
use crate::login::{Login, LoginError, LoginFlags};
use crate::output;
use crate::retry::Budget;
use crate::serve::duration;
use call::{CallError, Effect};
use clap::{Args, Subcommand};
use conditions::{BadCondition, ConditionFlags, Conditions};
use keys::{KeyFlags, KeyRange};
use print::Show;
use quorate_server::api::freshness;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, TxnRequest,
};
use serde_json::{Value, json};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tonic::metadata::AsciiMetadataValue;

/// Largest message accepted: a range is not limited by the size of a request.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

const EXAMPLES: &str = "\
Examples:
  quorate ctl put hello world
  quorate ctl get hello
  quorate ctl get --prefix '' --keys-only
  quorate ctl del --prefix tmp/
  quorate ctl watch config/ --prefix
  quorate ctl snapshot save backup.db
  quorate ctl get hello --endpoints a:2379,b:2379 --json
  quorate ctl put state 7 --fence jobs/694d7=12       only while that lock is held
  quorate ctl put state 7 --request-id mover/41@1200  once, however often it is asked

Endpoints are tried in turn until one accepts a connection. An error says whether the request has
certainly not happened, or whether its outcome is unknown.
Exit status: 0 done, 1 refused or outcome unknown, 2 usage or no endpoint reachable.";

const GET_EXAMPLES: &str = "\
Examples:
  quorate ctl get config/a
  quorate ctl get config/ --prefix --limit 10
  quorate ctl get a --range-end c --keys-only
  quorate ctl get config/a --rev 42
  quorate ctl get '' --prefix --count-only
  quorate ctl get config/a --serializable    from this member alone, perhaps stale";

const PUT_EXAMPLES: &str = "\
Examples:
  quorate ctl put config/a on
  quorate ctl put config/a - < file
  quorate ctl put config/a off --prev-kv";

const DEL_EXAMPLES: &str = "\
Examples:
  quorate ctl del config/a
  quorate ctl del config/ --prefix
  quorate ctl del a --range-end c --prev-kv";

const TXN_EXAMPLES: &str = "\
The text has up to three blocks with an empty line between them:

  value(\"balance\") = \"10\"      compares: value, version, create, mod, lease with = != < >
  mod(\"lock\") < \"42\"

  put balance \"9\"              done if all compares hold: put, get, del
  get log/ --prefix            get and del take --prefix, --from-key, --range-end=END

  get balance                  done otherwise

Examples:
  quorate ctl txn < transfer.txt
  quorate ctl txn --file transfer.txt --json
  printf 'create(\"lock\") = \"0\"\\n\\nput lock me\\n\\nget lock\\n' | quorate ctl txn";

/// The flags of `quorate ctl`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
    /// Whom to ask, in this order
    #[arg(long, global = true, value_name = "HOST:PORT,..")]
    #[arg(default_value = client::ENDPOINTS_DEFAULT, env = "ETCDCTL_ENDPOINTS", hide_env = true)]
    endpoints: String,
    #[command(flatten)]
    security: client::Security,
    /// Seconds to wait for the answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// One JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    conditions: ConditionFlags,
    #[command(flatten)]
    login: LoginFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read keys
    #[command(after_help = GET_EXAMPLES)]
    Get(Get),
    /// Write a key
    #[command(after_help = PUT_EXAMPLES)]
    Put(Put),
    /// Delete keys; prints how many
    #[command(after_help = DEL_EXAMPLES)]
    Del(Del),
    /// Compare and write in one step
    #[command(after_help = TXN_EXAMPLES)]
    Txn(Txn),
    /// Follow changes
    Watch(watch::Watch),
    /// Keys that vanish unless somebody keeps them alive
    Lease(lease::Lease),
    /// Forget history
    Compact(upkeep::Compact),
    /// What is wrong with members
    Alarm(upkeep::Alarm),
    /// Copies of the whole state
    Snapshot(crate::backup::Snapshot),
    /// Whether users and roles matter
    Auth(auth::Auth),
    /// Who may log in
    User(auth::User),
    /// What users may do
    Role(auth::Role),
    /// Who the members are, and changing them
    Member(member::Member),
    /// What users and prefixes may take
    #[command(hide = true)]
    Limit(limit::Limit),
}

/// The flags of `quorate member`.
#[derive(Args, Debug)]
pub(crate) struct MemberOptions {
    #[command(flatten)]
    member: member::Member,
    /// Whom to ask, in this order
    #[arg(long, global = true, value_name = "HOST:PORT,..")]
    #[arg(default_value = client::ENDPOINTS_DEFAULT, env = "ETCDCTL_ENDPOINTS", hide_env = true)]
    endpoints: String,
    /// Seconds to wait for the answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// One JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    security: client::Security,
    #[command(flatten)]
    login: LoginFlags,
}

/// The flags of `quorate limit`.
#[derive(Args, Debug)]
pub(crate) struct LimitOptions {
    #[command(flatten)]
    limit: limit::Limit,
    /// Whom to ask, in this order
    #[arg(long, global = true, value_name = "HOST:PORT,..")]
    #[arg(default_value = client::ENDPOINTS_DEFAULT, env = "ETCDCTL_ENDPOINTS", hide_env = true)]
    endpoints: String,
    /// Seconds to wait for the answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// One JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    security: client::Security,
    #[command(flatten)]
    login: LoginFlags,
}

#[derive(Args, Debug)]
struct Get {
    /// The key
    key: String,
    #[command(flatten)]
    keys: KeyFlags,
    /// Read at this revision [default: the latest]
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// At most so many keys [default: all]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    limit: i64,
    /// Keys without values
    #[arg(long, conflicts_with = "count_only")]
    keys_only: bool,
    /// How many keys there are
    #[arg(long)]
    count_only: bool,
    /// From the member asked, without consulting the others: fast, perhaps stale
    #[arg(long)]
    serializable: bool,
    /// From the member asked, if what it has is no older than this: 500ms or 2s
    #[arg(long, value_name = "TIME", conflicts_with = "serializable", value_parser = staleness)]
    max_staleness: Option<AsciiMetadataValue>,
}

/// As the server wants it.
fn staleness(text: &str) -> Result<AsciiMetadataValue, String> {
    let time = duration::parse(text).ok_or("write 500ms or 2s")?;
    let text = format!("{}ms", time.as_millis());
    AsciiMetadataValue::try_from(text).map_err(|error| error.to_string())
}

#[derive(Args, Debug)]
struct Put {
    /// The key
    key: String,
    /// The value; '-' reads it from standard input
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Delete the key when this lease ends
    #[arg(long, value_name = "ID", default_value = "0", hide_default_value = true)]
    #[arg(value_parser = lease::id)]
    lease: i64,
    /// Also print what was there before
    #[arg(long)]
    prev_kv: bool,
}

#[derive(Args, Debug)]
struct Del {
    /// The key
    key: String,
    #[command(flatten)]
    keys: KeyFlags,
    /// Also print what was there before
    #[arg(long)]
    prev_kv: bool,
}

#[derive(Args, Debug)]
struct Txn {
    /// Read the transaction from this file instead of standard input
    #[arg(long)]
    file: Option<PathBuf>,
}

/// Why a command did nothing, or may have done something.
#[derive(Debug)]
enum CtlError {
    Endpoints(EndpointsError),
    Login(LoginError),
    Condition(BadCondition),
    Input { what: String, error: std::io::Error },
    Txn(txn::TxnError),
    Call(CallError),
    LeaseGone { id: i64 },
    Member { text: String, count: usize },
    Replaced { old: String, name: String },
    Copy(BackupError),
}

impl CtlError {
    fn exit_code(&self) -> ExitCode {
        match self {
            CtlError::Call(CallError::Refused { .. } | CallError::OutcomeUnknown { .. }) => {
                ExitCode::from(1)
            }
            CtlError::LeaseGone { .. } => ExitCode::from(1),
            CtlError::Copy(error) => ExitCode::from(error.exit_status()),
            _ => ExitCode::from(crate::EXIT_USAGE),
        }
    }

    fn outcome(&self) -> &'static str {
        match self {
            CtlError::Call(error) => error.outcome(),
            _ => "did not happen",
        }
    }
}

impl fmt::Display for CtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CtlError::Endpoints(error) => error.fmt(f),
            CtlError::Login(error) => error.fmt(f),
            CtlError::Condition(error) => error.fmt(f),
            CtlError::Input { what, error } => write!(f, "cannot read {what}: {error}"),
            CtlError::Txn(error) => write!(f, "the transaction: {error}"),
            CtlError::Call(error) => error.fmt(f),
            CtlError::LeaseGone { id } => write!(
                f,
                "there is no lease {id:x} (any more): it has run out, was revoked, or never was"
            ),
            CtlError::Member { text, count: 0 } => write!(
                f,
                "no member is called '{text}', and it is no id; 'quorate member list' prints both"
            ),
            CtlError::Member { text, count } => {
                write!(f, "{count} members are called '{text}'; give the id of one")
            }
            CtlError::Replaced { old, name } => write!(
                f,
                "no member is called '{old}', and '{name}' is there: if that took its place, all \
                 is done; else give the id of the old member"
            ),
            CtlError::Copy(error) => error.fmt(f),
        }
    }
}

impl From<CallError> for CtlError {
    fn from(error: CallError) -> CtlError {
        CtlError::Call(error)
    }
}

impl From<BackupError> for CtlError {
    fn from(error: BackupError) -> CtlError {
        CtlError::Copy(error)
    }
}

/// Does what `quorate limit` does.
pub(crate) fn run_limit(options: LimitOptions) -> ExitCode {
    let LimitOptions { limit, endpoints, timeout, json, security, login } = options;
    let conditions = ConditionFlags::default();
    let command = Command::Limit(limit);
    run(&Options { command, endpoints, security, timeout, json, conditions, login })
}

/// Does what `quorate ctl member` does.
pub(crate) fn run_member(options: MemberOptions) -> ExitCode {
    let MemberOptions { member, endpoints, timeout, json, security, login } = options;
    // Changes of members are not guarded by locks.
    let conditions = ConditionFlags::default();
    let command = Command::Member(member);
    run(&Options { command, endpoints, security, timeout, json, conditions, login })
}

/// Does it.
pub(crate) fn run(options: &Options) -> ExitCode {
    let done = client::parse_endpoints(&options.endpoints, &options.security)
        .map_err(CtlError::Endpoints)
        .and_then(|endpoints| {
            let timeout = Duration::from_secs(options.timeout);
            let login = options.login.read().map_err(CtlError::Login)?;
            let conditions = options.conditions.read().map_err(CtlError::Condition)?;
            let json = options.json;
            let budget = Budget::default();
            let caller = Caller { endpoints, timeout, login, conditions, json, budget };
            client::block_on(dispatch(options, &caller))
        });
    let Err(error) = done else { return ExitCode::SUCCESS };
    if options.json {
        let message = error.to_string();
        output::line(json!({ "error": message, "outcome": error.outcome() }));
    } else {
        output::complain(&error);
    }
    error.exit_code()
}

struct Caller {
    endpoints: Vec<Endpoint>,
    timeout: Duration,
    /// As whom, if as somebody.
    login: Option<Login>,
    /// What is added to each write.
    conditions: Conditions,
    /// Only JSON is printed.
    json: bool,
    /// Of what may be asked again.
    budget: Budget,
}

async fn dispatch(options: &Options, caller: &Caller) -> Result<(), CtlError> {
    let json = match &options.command {
        Command::Get(get) => {
            let (answer, staleness) = caller.read(get).await?;
            if !options.json {
                print::range(&answer, get.show());
            }
            let mut json = print::range_json(&answer);
            if let (Some(staleness), Some(fields)) = (staleness, json.as_object_mut()) {
                fields.insert("staleness".to_owned(), json!(staleness));
            }
            json
        }
        Command::Put(put) => {
            let answer = caller.put(put.request()?).await?;
            if !options.json {
                print::put(&answer);
            }
            print::put_json(&answer)
        }
        Command::Del(del) => {
            let answer = caller.delete(del.request()).await?;
            if !options.json {
                print::delete(&answer);
            }
            print::delete_json(&answer)
        }
        Command::Txn(txn) => {
            let answer = caller.txn(txn.request()?).await?;
            if !options.json {
                print::txn(&answer);
            }
            print::txn_json(&answer)
        }
        Command::Watch(watch) => return watch.run(caller).await,
        Command::Lease(lease) => lease.run(caller).await?,
        Command::Compact(compact) => compact.run(caller).await?,
        Command::Alarm(alarm) => alarm.run(caller).await?,
        Command::Snapshot(snapshot) => {
            let (login, timeout) = (caller.login.as_ref(), caller.timeout);
            let source = Source { endpoints: caller.endpoints.clone(), login, timeout };
            let done = snapshot.run(&source, options.json).await?;
            done.print(options.json);
            Value::Null
        }
        Command::Auth(auth) => auth.run(caller).await?,
        Command::User(user) => user.run(caller).await?,
        Command::Role(role) => role.run(caller).await?,
        Command::Member(member) => member.run(caller).await?,
        Command::Limit(limit) => limit.run(caller).await?,
    };
    if options.json && !json.is_null() {
        output::line(json);
    }
    Ok(())
}

impl Caller {
    /// Prints a line for eyes.
    fn say(&self, line: impl fmt::Display) {
        if !self.json {
            output::line(line);
        }
    }

    /// A range, and how old the server says that its answer can be.
    async fn read(&self, get: &Get) -> Result<(RangeResponse, Option<String>), CallError> {
        self.call(Effect::Read, async |channel| {
            let mut kv = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let mut request = tonic::Request::new(get.request());
            if let Some(at_most) = &get.max_staleness {
                request.metadata_mut().insert(freshness::MAX_STALENESS, at_most.clone());
            }
            let response = kv.range(request).await?;
            let staleness = response.metadata().get(freshness::STALENESS);
            let staleness = staleness.and_then(|text| text.to_str().ok()).map(str::to_owned);
            Ok(response.map(|answer| (answer, staleness)))
        })
        .await
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, CallError> {
        self.call(Effect::Read, async |channel| {
            let mut kv = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            kv.range(request.clone()).await
        })
        .await
    }

    async fn put(
        &self,
        request: PutRequest,
    ) -> Result<quorate_server::proto::etcdserverpb::PutResponse, CallError> {
        self.call(Effect::Named, async |channel| {
            KvClient::new(channel).put(self.conditions.named(request.clone())).await
        })
        .await
    }

    async fn delete(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<quorate_server::proto::etcdserverpb::DeleteRangeResponse, CallError> {
        self.call(Effect::Named, async |channel| {
            let mut kv = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            kv.delete_range(self.conditions.named(request.clone())).await
        })
        .await
    }

    async fn txn(
        &self,
        request: TxnRequest,
    ) -> Result<quorate_server::proto::etcdserverpb::TxnResponse, CallError> {
        self.call(Effect::Named, async |channel| {
            let mut kv = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            kv.txn(self.conditions.named(request.clone())).await
        })
        .await
    }
}

impl Get {
    fn request(&self) -> RangeRequest {
        let range = KeyRange::new(&self.key, &self.keys);
        RangeRequest {
            key: range.key.into(),
            range_end: range.range_end.into(),
            revision: self.rev,
            limit: self.limit,
            keys_only: self.keys_only,
            count_only: self.count_only,
            serializable: self.serializable,
            ..RangeRequest::default()
        }
    }

    fn show(&self) -> Show {
        match (self.count_only, self.keys_only) {
            (true, _) => Show::Count,
            (false, true) => Show::Keys,
            (false, false) => Show::Everything,
        }
    }
}

impl Put {
    fn request(&self) -> Result<PutRequest, CtlError> {
        let value =
            if self.value == "-" { read_input(None)? } else { self.value.clone().into_bytes() };
        let key = self.key.clone().into_bytes().into();
        let Put { lease, prev_kv, .. } = *self;
        Ok(PutRequest { key, value: value.into(), lease, prev_kv, ..PutRequest::default() })
    }
}

impl Del {
    fn request(&self) -> DeleteRangeRequest {
        let range = KeyRange::new(&self.key, &self.keys);
        DeleteRangeRequest {
            key: range.key.into(),
            range_end: range.range_end.into(),
            prev_kv: self.prev_kv,
        }
    }
}

impl Txn {
    fn request(&self) -> Result<TxnRequest, CtlError> {
        let bytes = read_input(self.file.as_deref())?;
        txn::parse(&String::from_utf8_lossy(&bytes)).map_err(CtlError::Txn)
    }
}

/// All of a file, or of standard input.
fn read_input(file: Option<&Path>) -> Result<Vec<u8>, CtlError> {
    let mut bytes = Vec::new();
    let read = match file {
        Some(path) => std::fs::read(path).map(|content| bytes = content),
        None => std::io::stdin().read_to_end(&mut bytes).map(|_| ()),
    };
    let what =
        || file.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    read.map_err(|error| CtlError::Input { what: what(), error })?;
    Ok(bytes)
}
