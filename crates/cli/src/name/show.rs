//! `quorate name resolve` and `quorate name list`.

use super::look::{self, Instance, Listing};
use super::{Failure, Flags, asked};
use crate::client;
use crate::lock::members::FIRST_CONTACT;
use crate::output;
use clap::Args;
use quorate_server::naming::{Standing, range_end};
use quorate_server::proto::etcdserverpb::RangeRequest;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Keys that are read at a time.
const PAGE_KEYS: i64 = 1_000;
/// Names that are listed; further ones are counted, and not shown.
const NAMES_MAX: usize = 100_000;
/// How long one page may take.
const EACH: Duration = Duration::from_secs(5);

const RESOLVE_EXAMPLES: &str = "\
Examples:
  quorate name resolve web
  quorate name resolve web --all                    those that are withdrawn, too, and why
  quorate name resolve web --json | jq -r '.instances[].addr'
  quorate name resolve team/web --prefix ''         what a Go client registered as team/web

Exit status: 0 somebody is healthy, 1 nobody is, 2 usage or no endpoint reachable.";

const LIST_EXAMPLES: &str = "\
Examples:
  quorate name list
  quorate name list --json

Exit status: 0 there are names, 1 there is none, 2 usage or no endpoint reachable.";

/// The flags of `quorate name resolve`.
#[derive(Args, Debug)]
#[command(after_help = RESOLVE_EXAMPLES)]
pub(super) struct Resolve {
    /// The name
    name: String,
    /// Show withdrawn instances, too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    pub(super) flags: Flags,
}

/// The flags of `quorate name list`.
#[derive(Args, Debug)]
#[command(after_help = LIST_EXAMPLES)]
pub(super) struct List {
    #[command(flatten)]
    pub(super) flags: Flags,
}

/// Shows where a name is.
pub(super) fn resolve(options: &Resolve) -> Result<u8, Failure> {
    let name = asked(&options.name)?;
    let mut listing = client::block_on(look::look(&options.flags, &name))?;
    let is_healthy = |instance: &Instance| instance.standing == Standing::Healthy;
    let healthy = listing.instances.iter().filter(|instance| is_healthy(instance)).count();
    let found = listing.instances.len();
    if !options.all {
        listing.instances.retain(is_healthy);
    }
    match options.flags.json {
        true => output::line(json_of(&name, &listing)),
        false => print(&name, &listing, healthy, found),
    }
    Ok(if healthy > 0 { 0 } else { 1 })
}

fn print(name: &str, listing: &Listing, healthy: usize, found: usize) {
    let head = ["ADDRESS", "STATE", "AGE", "TTL LEFT", "WEIGHT", "PRIORITY", "SERVICE"];
    let mut table = vec![head.map(str::to_owned)];
    table.extend(listing.instances.iter().map(cells));
    if table.len() > 1 {
        print_table(&table);
    }
    for instance in &listing.instances {
        if let Some(why) = instance.record.terms().why {
            output::line(format_args!("  {}: {why}", instance.addr()));
        }
    }
    let (revision, member) = (listing.revision, &listing.member);
    output::line(format_args!(
        "{name}: {healthy} healthy of {found}, at revision {revision}, by {member}"
    ));
    if listing.unreadable > 0 {
        let many = listing.unreadable;
        output::complain(format_args!("{many} keys of {name} have values of something else"));
    }
    if listing.further > 0 {
        let many = listing.further;
        output::complain(format_args!("{many} further instances are not shown"));
    }
}

fn cells(instance: &Instance) -> [String; 7] {
    let terms = instance.record.terms();
    let dash = || "-".to_owned();
    let state = match instance.standing {
        Standing::Healthy => "healthy",
        Standing::Withdrawn => "withdrawn",
    };
    let service = terms.service.as_ref().map(|service| format!("_{service}._{}", terms.proto));
    [
        instance.addr().to_owned(),
        state.to_owned(),
        instance.age().map_or_else(dash, short),
        instance.ttl_left.map_or_else(dash, |left| format!("{left}s")),
        terms.weight.to_string(),
        terms.priority.to_string(),
        service.unwrap_or_else(dash),
    ]
}

/// In the largest unit that gives a whole number.
fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn print_table<const N: usize>(table: &[[String; N]]) {
    let widths: Vec<usize> =
        (0..N).map(|i| table.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    for row in table {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        output::line(cells.join("  ").trim_end());
    }
}

fn json_of(name: &str, listing: &Listing) -> Value {
    let instances: Vec<Value> = listing.instances.iter().map(instance_json).collect();
    json!({
        "name": name,
        "revision": listing.revision,
        "member": listing.member,
        "instances": instances,
    })
}

/// For programs; also of `watch`.
pub(super) fn instance_json(instance: &Instance) -> Value {
    let terms = instance.record.terms();
    json!({
        "addr": instance.addr(),
        "healthy": instance.standing == Standing::Healthy,
        "why": terms.why,
        "weight": terms.weight,
        "priority": terms.priority,
        "service": terms.service,
        "proto": terms.proto,
        "metadata": instance.record.metadata,
        "age_seconds": instance.age().map(|age| age.as_secs()),
        "ttl_left_seconds": instance.ttl_left,
        "lease": (instance.lease != 0).then(|| format!("{:x}", instance.lease)),
        "mod_revision": instance.mod_revision,
    })
}

/// Of one name.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    healthy: usize,
    withdrawn: usize,
}

/// Shows all names.
pub(super) fn list(options: &List) -> Result<u8, Failure> {
    let (names, further) = client::block_on(names(&options.flags))?;
    match options.flags.json {
        true => {
            let names: Vec<Value> = names
                .iter()
                .map(|(name, of)| {
                    json!({ "name": name, "healthy": of.healthy, "withdrawn": of.withdrawn })
                })
                .collect();
            output::line(json!({ "names": names }));
        }
        false if names.is_empty() => {
            let prefix = &options.flags.prefix;
            output::line(format_args!("no names below {prefix:?}"));
        }
        false => {
            let mut table = vec![["NAME", "HEALTHY", "WITHDRAWN"].map(str::to_owned)];
            let row = |(name, of): (&String, &Counts)| {
                [name.clone(), of.healthy.to_string(), of.withdrawn.to_string()]
            };
            table.extend(names.iter().map(row));
            print_table(&table);
        }
    }
    if further {
        output::complain(format_args!("there are more; shown are the first {NAMES_MAX}"));
    }
    Ok(u8::from(names.is_empty()))
}

/// The names, and whether there are further ones; page by page, all at the revision of the first.
async fn names(flags: &Flags) -> Result<(BTreeMap<String, Counts>, bool), Failure> {
    let (members, directory) = (flags.members()?, flags.directory());
    let mut names: BTreeMap<String, Counts> = BTreeMap::new();
    let end = range_end(directory.prefix());
    let begin = if directory.prefix().is_empty() { "\0" } else { directory.prefix() };
    let (mut from, mut revision) = (begin.as_bytes().to_vec(), 0);
    loop {
        let range = RangeRequest {
            key: from.clone().into(),
            range_end: end.clone().into(),
            limit: PAGE_KEYS,
            revision,
            keys_only: true,
            ..RangeRequest::default()
        };
        let page = members.ask(Some(EACH), Some(Instant::now() + FIRST_CONTACT), async |channel| {
            KvClient::new(channel).range(range.clone()).await
        });
        let page = page.await?;
        for kv in &page.kvs {
            let Some((name, standing, _)) =
                std::str::from_utf8(&kv.key).ok().and_then(|key| directory.read(key))
            else {
                continue;
            };
            if names.len() == NAMES_MAX && !names.contains_key(name) {
                return Ok((names, true));
            }
            let counts = names.entry(name.to_owned()).or_default();
            match standing {
                Standing::Healthy => counts.healthy += 1,
                Standing::Withdrawn => counts.withdrawn += 1,
            }
        }
        let Some(last) = page.kvs.last().filter(|_| page.more) else { return Ok((names, false)) };
        from = [&last.key[..], b"\0"].concat();
        if revision == 0 {
            revision = page.header.map_or(0, |header| header.revision);
        }
    }
}
