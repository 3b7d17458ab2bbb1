//! `quorate name register`: the lease under which instances are listed, and the command beside it.

use super::check::{Check, Patient, Verdict};
use super::claim::{Claim, Claimed, Taking};
use super::{Failure, Flags};
use crate::lock::Signals;
use crate::lock::command::Group;
use crate::lock::lease::Lease;
use crate::lock::members::{AskError, FIRST_CONTACT, Members};
use crate::output;
use crate::serve::duration;
use clap::Args;
use quorate_server::naming::{Directory, Name, Place, Record, Standing, Terms};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tonic::Code;

/// Addresses of one registrar.
const ADDRESSES_MAX: usize = 64;

/// How long giving up the registration may take; after that its lease has to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// Pause before a lease is asked for again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Leases of this registrar that may still live; older ones have ended.
const LEASES_KEPT: usize = 4;

const EXAMPLES: &str = "\
Examples:
  quorate name register web 10.0.0.1:80                    listed until Ctrl-C
  quorate name register web 10.0.0.1:80 -- ./serve.sh      listed while the command runs
  quorate name register web 10.0.0.1 10.0.0.2 --port 80 --check 'http://{addr}/healthz'
  quorate name register db db1.example:5432 --priority 1 --metadata '{\"role\":\"standby\"}'
  quorate name register web 10.0.0.1:80 --service http     answers _http._tcp.web in DNS

Without --check an instance is healthy while this process runs. With it, it is listed once the
check has succeeded, and withdrawn after --failures failures in a row: 'resolve --all' still shows
it, and why. A command check finds QUORATE_NAME and QUORATE_ADDR in its environment.
If the lease is lost, because this machine was cut off or stood still, it is registered again as
soon as it can be, unless another registrar has it by then.
Exit status: that of the command; 0 after Ctrl-C or SIGTERM; 76 another registrar has everything,
1 refused, 2 usage or no endpoint reachable.";

/// The flags of `quorate name register`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Register {
    /// The name, as DNS takes it: letters, digits, '-', '_', with dots between
    name: String,
    /// Where instances are: HOST:PORT, [IPV6]:PORT
    #[arg(required = true, num_args = 1..=ADDRESSES_MAX, value_name = "ADDR[:PORT]")]
    addresses: Vec<String>,
    #[command(flatten)]
    pub(super) flags: Flags,
    /// Port of the addresses that have none
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Seconds after which it is gone when this process falls silent
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(i64).range(2..=86_400))]
    ttl: i64,
    /// Share of the requests, among instances of the same priority
    #[arg(long, default_value_t = quorate_server::naming::WEIGHT_DEFAULT)]
    weight: u16,
    /// Instances of a smaller number are used first
    #[arg(long, default_value_t = 0)]
    priority: u16,
    /// What is served: 'http' for _http._tcp [default: whatever is asked for]
    #[arg(long)]
    service: Option<String>,
    /// Over what it is served
    #[arg(long, default_value = "tcp", value_parser = ["tcp", "udp"])]
    proto: String,
    /// What clients may want to know besides
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// tcp; http://{addr}/path; or a command for the shell
    #[arg(long, value_name = "CHECK")]
    check: Option<String>,
    /// Time between two checks
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    check_every: Duration,
    /// How long a check may take
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    check_within: Duration,
    /// So many failed checks in a row withdraw an instance
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    failures: u32,
    /// What to run while registered [default: nothing; until Ctrl-C]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).filter(|time| *time >= Duration::from_millis(10));
    time.ok_or_else(|| "write 500ms, 2s or 5m; at least 10ms".to_owned())
}

/// One address of ours.
#[derive(Debug)]
struct Instance {
    addr: String,
    since: u64,
    /// Why it is not healthy, if it is not.
    why: Option<String>,
    is_replaced: bool,
}

/// What is to be registered.
struct Plan<'a> {
    options: &'a Register,
    name: String,
    service: Option<String>,
    metadata: Value,
    directory: Directory,
    members: Members,
}

/// How far that is.
struct State {
    instances: Vec<Instance>,
    /// The present lease is the last one.
    leases: Vec<i64>,
    taking: Taking,
    verdicts: mpsc::Receiver<Verdict>,
}

/// Why a lease is not held any longer.
enum Ended {
    Lost(String),
    /// Others have all of it.
    Replaced,
}

/// Does it; the exit status.
pub(super) fn run(options: &Register) -> Result<u8, Failure> {
    crate::client::block_on(register(options))
}

async fn register(options: &Register) -> Result<u8, Failure> {
    let (plan, addresses, check) = Plan::of(options)?;
    let (tell, verdicts) = mpsc::channel(ADDRESSES_MAX);
    let why = check.is_some().then(|| "it was not checked yet".to_owned());
    let instances = addresses.iter().map(|addr| Instance::new(addr, why.clone())).collect();
    let mut state = State { instances, leases: Vec::new(), taking: Taking::Over, verdicts };
    let mut signals = Signals::new();
    let lease = Lease::grant(&plan.members, options.ttl).await?;
    state.leases.push(lease.id());
    // Who may not write is told before anything is started.
    let begun = plan.claim_all(&mut state, Some(Instant::now() + FIRST_CONTACT)).await;
    let group = begun.map_err(Failure::from).and_then(|_| plan.start_command());
    let mut group = match group {
        Ok(group) => group,
        Err(failure) => {
            plan.leave(&state).await;
            return Err(failure);
        }
    };
    for (number, addr) in addresses.into_iter().enumerate() {
        let Some(check) = check.clone() else { break };
        let (every, within) = (options.check_every, options.check_within);
        let (name, failures) = (plan.name.clone(), options.failures);
        let patient = Patient { check, name, addr, every, within, failures };
        tokio::spawn(patient.look_after(number, tell.clone()));
    }
    let (mut status, mut is_left) = (None, false);
    tokio::select! {
        () = plan.hold(&mut state, lease) => {}
        ended = ended(&mut group) => status = Some(ended),
        signal = signals.any() => {
            // Nobody is sent to a service that is about to end.
            plan.leave(&state).await;
            is_left = true;
            match &group {
                Some(group) => group.pass_on(signal),
                None => status = Some(0),
            }
        }
    }
    let status = match (status, group) {
        (Some(status), _) => status,
        (None, None) => return Err(Failure::Replaced),
        // It is not registered any more, and may take its time to end.
        (None, Some(mut group)) => loop {
            tokio::select! {
                status = group.ended() => break status,
                signal = signals.any() => group.pass_on(signal),
            }
        },
    };
    if !is_left {
        plan.leave(&state).await;
    }
    Ok(status)
}

/// Waits for the end of the command, if there is one.
async fn ended(group: &mut Option<Group>) -> u8 {
    match group {
        Some(group) => group.ended().await,
        None => std::future::pending().await,
    }
}

fn named(text: &str) -> Result<String, Failure> {
    let named = Name::parse(text).map(|name| name.as_str().to_owned());
    named.map_err(|error| Failure::Name { text: text.to_owned(), error })
}

fn addresses(options: &Register, check: Option<&Check>) -> Result<Vec<String>, Failure> {
    let mut addresses = Vec::new();
    for text in &options.addresses {
        let mut place = Place::parse(text).ok_or_else(|| Failure::Address(text.clone()))?;
        place.port = place.port.or(options.port);
        let addr = place.to_string();
        if let Some(check) = check {
            check.suits(&addr, place.port.is_some()).map_err(Failure::Check)?;
        }
        if addresses.contains(&addr) {
            return Err(Failure::Twice(addr));
        }
        addresses.push(addr);
    }
    Ok(addresses)
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Instance {
    fn new(addr: &str, why: Option<String>) -> Instance {
        Instance { addr: addr.to_owned(), since: now(), why, is_replaced: false }
    }

    fn standing(&self) -> Standing {
        if self.why.is_none() { Standing::Healthy } else { Standing::Withdrawn }
    }
}

impl Plan<'_> {
    /// What is asked for, checked; the addresses, and how to look at them.
    fn of(options: &Register) -> Result<(Plan<'_>, Vec<String>, Option<Check>), Failure> {
        let name = named(&options.name)?;
        let service = options.service.as_deref().map(named).transpose()?;
        let check = options.check.as_deref().map(Check::parse).transpose();
        let check = check.map_err(Failure::Check)?;
        let addresses = addresses(options, check.as_ref())?;
        let metadata = options.metadata.as_deref().map_or(Ok(Value::Null), serde_json::from_str);
        let metadata = metadata.map_err(Failure::Metadata)?;
        let (directory, members) = (options.flags.directory(), options.flags.members()?);
        Ok((Plan { options, name, service, metadata, directory, members }, addresses, check))
    }

    fn start_command(&self) -> Result<Option<Group>, Failure> {
        let Some((program, arguments)) = self.options.command.split_first() else {
            return Ok(None);
        };
        let environment = vec![("QUORATE_NAME", self.name.clone())];
        let group = Group::start(program, arguments, environment);
        group.map(Some).map_err(|error| Failure::Command { command: program.clone(), error })
    }

    /// Stays registered, under one lease after the other. Returns when others have all of it.
    async fn hold(&self, state: &mut State, mut lease: Lease) {
        loop {
            // The lease is kept alive while anything else waits for an answer.
            let ended = tokio::select! {
                why = lease.keep_alive(&self.members) => Ended::Lost(why),
                ended = self.tend(state) => ended,
            };
            let Ended::Lost(why) = ended else { return };
            self.tell(
                &format!("lost: {why}; registering again"),
                &json!({ "event": "lost", "why": why }),
            );
            lease = self.lease_again().await;
            state.leases.push(lease.id());
            let old = state.leases.len().saturating_sub(LEASES_KEPT);
            state.leases.drain(..old);
            state.taking = Taking::OwnOnly;
        }
    }

    /// Puts what is there where it belongs: at first, after every verdict, and now and then, in
    /// case that somebody has deleted or replaced it.
    async fn tend(&self, state: &mut State) -> Ended {
        let pause = Duration::from_secs(self.options.ttl.unsigned_abs()) / 2;
        loop {
            match self.claim_all(state, None).await {
                Ok(left) if left == 0 => return Ended::Replaced,
                Ok(_) => {}
                Err(why) => {
                    let is_gone = matches!(
                        &why,
                        AskError::Refused { status, .. } if status.code() == Code::NotFound
                    );
                    if is_gone {
                        return Ended::Lost("the lease is gone".to_owned());
                    }
                    self.tell(
                        &why.to_string(),
                        &json!({ "event": "refused", "why": why.to_string() }),
                    );
                }
            }
            state.taking = Taking::OwnOnly;
            tokio::select! {
                verdict = state.verdicts.recv() => match verdict {
                    Some((number, found)) => {
                        let instance = &mut state.instances[number];
                        instance.why = found.err();
                    }
                    // Nothing is checked.
                    None => sleep(pause).await,
                },
                () = sleep(pause) => {}
            }
        }
    }

    /// Claims every instance that nobody else has; how many there are.
    async fn claim_all(
        &self,
        state: &mut State,
        until: Option<Instant>,
    ) -> Result<usize, AskError> {
        let State { instances, leases, taking, .. } = state;
        for instance in instances.iter_mut().filter(|instance| !instance.is_replaced) {
            let standing = instance.standing();
            let claim = Claim {
                directory: &self.directory,
                name: &self.name,
                addr: &instance.addr,
                standing,
                value: self.record(instance).to_value(),
                leases,
                taking: *taking,
            };
            match claim.make(&self.members, until).await? {
                Claimed::AsItWas => {}
                Claimed::Written => self.tell_written(instance, leases.last()),
                Claimed::Replaced => {
                    instance.is_replaced = true;
                    let addr = &instance.addr;
                    self.tell(
                        &format!("replaced {addr}: another registrar has it now"),
                        &json!({ "event": "replaced", "name": self.name, "addr": addr }),
                    );
                }
            }
        }
        Ok(instances.iter().filter(|instance| !instance.is_replaced).count())
    }

    fn record(&self, instance: &Instance) -> Record {
        let options = self.options;
        let terms = Terms {
            weight: options.weight,
            priority: options.priority,
            service: self.service.clone(),
            proto: options.proto.clone(),
            ttl: options.ttl.unsigned_abs(),
            since: instance.since,
            why: instance.why.clone(),
        };
        Record::new(instance.addr.clone(), self.metadata.clone(), terms)
    }

    fn tell_written(&self, instance: &Instance, lease: Option<&i64>) {
        let (name, addr, ttl) = (&self.name, &instance.addr, self.options.ttl);
        let lease = format!("{:x}", lease.copied().unwrap_or(0));
        let (event, text) = match &instance.why {
            None => {
                let text = format!("registered {addr} as {name}, under lease {lease} of {ttl} s");
                ("registered", text)
            }
            Some(why) => ("withdrawn", format!("withdrawn {addr}: {why}")),
        };
        let why = &instance.why;
        let told = json!({
            "event": event, "name": name, "addr": addr, "lease": lease, "ttl": ttl, "why": why,
        });
        self.tell(&text, &told);
    }

    /// A new lease, however long that takes.
    async fn lease_again(&self) -> Lease {
        let mut told = String::new();
        loop {
            let why = match Lease::grant(&self.members, self.options.ttl).await {
                Ok(lease) => return lease,
                Err(why) => why.to_string(),
            };
            if why != told {
                self.tell(&why, &json!({ "event": "waiting", "why": why }));
                told = why;
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Ends the registration, as far as it is ours.
    async fn leave(&self, state: &State) {
        let ending = async {
            for lease in &state.leases {
                Lease::revoke_of(*lease, &self.members).await?;
            }
            Ok::<(), AskError>(())
        };
        match tokio::time::timeout(LEAVE_WITHIN, ending).await {
            Ok(Ok(())) => {
                let name = &self.name;
                self.tell(
                    &format!("deregistered {name}"),
                    &json!({ "event": "deregistered", "name": name }),
                );
            }
            Ok(Err(_)) | Err(_) => {
                let ttl = self.options.ttl;
                output::complain(format_args!("could not deregister; it ends within {ttl} s"));
            }
        }
    }

    /// Standard output is the command's, if there is one.
    fn tell(&self, text: &str, event: &Value) {
        match (self.options.flags.json, self.options.command.is_empty()) {
            (true, true) => output::line(event),
            (true, false) => output::note(event),
            (false, true) => output::line(text),
            (false, false) => output::complain(text),
        }
    }
}
