//! What users and prefixes may take: `quorate limit`.

use super::call::Effect;
use super::print::header_json;
use super::{Caller, CtlError};
use clap::{Args, Subcommand, ValueEnum};
use quorate_server::proto::quoratepb::limits_client::LimitsClient;
use quorate_server::proto::quoratepb::{
    LimitListRequest, LimitPriority, LimitRemoveRequest, LimitRule, LimitSetRequest, LimitUse,
};
use serde_json::{Value, json};

const EXAMPLES: &str = "\
Examples:
  quorate limit set batch --of-user batch --rate 200 --burst 400 --priority low
  quorate limit set leases --prefix /registry/leases/ --priority high
  quorate limit set team-a --prefix team-a/ --max-bytes 64MiB --max-keys 100000
  quorate limit list
  quorate limit remove batch

A rule is of the whole cluster, and counts for requests of its user, to keys below its prefix. Rates
and requests in flight are kept by each member for itself: three members take three times as many.
A storage quota counts living keys and their latest values, and is exact. What passes a limit is
refused with ResourceExhausted, and has not happened. With users, only root may change limits.
Exit status: 0 done, 1 refused or outcome unknown, 2 usage or no endpoint reachable.";

/// The commands about limits.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Limit {
    #[command(subcommand)]
    command: LimitCommand,
}

#[derive(Debug, Subcommand)]
enum LimitCommand {
    /// Set a rule, in place of one of its name
    Set(Box<Set>),
    /// The rules, and what is counted for storage quotas
    List,
    /// Remove a rule
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Args, Debug)]
struct Set {
    /// Its name: letters, digits and -_./
    name: String,
    /// Whose requests [default: everybody's]
    #[arg(long = "of-user", value_name = "NAME", default_value = "", hide_default_value = true)]
    user: String,
    /// To which keys [default: all]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Requests in a second that one member takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Requests that may come at once after a pause [default: as many as in a second]
    #[arg(long, value_name = "N", requires = "rate")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    burst: Option<u64>,
    /// Requests that one member has in flight
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    in_flight: Option<u64>,
    /// Who goes first when there is too much to do; the closest rule counts
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<Priority>,
    /// What living keys and their latest values may take: a number, or with KiB, MiB, GiB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_bytes: Option<u64>,
    /// How many keys may live
    #[arg(long, value_name = "N")]
    max_keys: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Priority {
    High,
    Normal,
    Low,
}

impl Priority {
    fn wire(self) -> LimitPriority {
        match self {
            Priority::High => LimitPriority::High,
            Priority::Normal => LimitPriority::Normal,
            Priority::Low => LimitPriority::Low,
        }
    }
}

/// `64MiB` -> 67,108,864.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("write a number of bytes, or one with KiB, MiB or GiB".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "write a number, such as 64MiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than there can be".to_owned())
}

impl Set {
    fn rule(&self) -> LimitRule {
        LimitRule {
            name: self.name.clone(),
            user: self.user.clone(),
            prefix: self.prefix.clone().into(),
            per_second: self.rate.unwrap_or(0),
            burst: self.burst.unwrap_or(0),
            in_flight: self.in_flight.unwrap_or(0),
            priority: self.priority.map_or(LimitPriority::Unset, Priority::wire).into(),
            bytes: self.max_bytes,
            keys: self.max_keys,
        }
    }
}

impl Limit {
    /// Does it.
    pub(super) async fn run(&self, caller: &Caller) -> Result<Value, CtlError> {
        match &self.command {
            LimitCommand::Set(set) => {
                let rule = set.rule();
                let answer = caller.call(Effect::Write, async |to| {
                    let request = LimitSetRequest { rule: Some(rule.clone()) };
                    LimitsClient::new(to).limit_set(request).await
                });
                let answer = answer.await?;
                caller.say(format_args!("limit {} set", rule.name));
                let header = header_json(answer.header.as_ref());
                Ok(json!({ "header": header, "limit": rule_json(&rule) }))
            }
            LimitCommand::List => {
                let answer = caller.call(Effect::Read, async |to| {
                    LimitsClient::new(to).limit_list(LimitListRequest {}).await
                });
                let answer = answer.await?;
                show(caller, &answer.limits);
                let header = header_json(answer.header.as_ref());
                let limits: Vec<Value> = answer.limits.iter().map(use_json).collect();
                Ok(json!({ "header": header, "limits": limits }))
            }
            LimitCommand::Remove { name } => {
                let answer = caller.call(Effect::Write, async |to| {
                    let request = LimitRemoveRequest { name: name.clone() };
                    LimitsClient::new(to).limit_remove(request).await
                });
                let answer = answer.await?;
                caller.say(format_args!("limit {name} removed"));
                let header = header_json(answer.header.as_ref());
                Ok(json!({ "header": header, "removed": name }))
            }
        }
    }
}

fn priority(rule: &LimitRule) -> Option<&'static str> {
    match rule.priority() {
        LimitPriority::Unset => None,
        LimitPriority::Low => Some("low"),
        LimitPriority::Normal => Some("normal"),
        LimitPriority::High => Some("high"),
    }
}

fn show(caller: &Caller, limits: &[LimitUse]) {
    let head =
        ["NAME", "USER", "PREFIX", "RATE", "BURST", "IN FLIGHT", "PRIORITY", "BYTES", "KEYS"];
    let mut rows = vec![head.map(str::to_owned)];
    for told in limits {
        let rule = told.rule.clone().unwrap_or_default();
        let some = |number: u64| if number == 0 { "-".to_owned() } else { number.to_string() };
        let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let of = |used: u64, max: Option<u64>| {
            max.map_or("-".to_owned(), |max| format!("{used} of {max}"))
        };
        let rate = if rule.per_second == 0 { "-".into() } else { format!("{}/s", rule.per_second) };
        rows.push([
            rule.name.clone(),
            text(&rule.user),
            text(&String::from_utf8_lossy(&rule.prefix)),
            rate,
            some(rule.burst),
            some(rule.in_flight),
            text(priority(&rule).unwrap_or_default()),
            of(told.bytes, rule.bytes),
            of(told.keys, rule.keys),
        ]);
    }
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        caller.say(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn rule_json(rule: &LimitRule) -> Value {
    let some = |number: u64| Some(number).filter(|number| *number > 0);
    json!({
        "name": rule.name,
        "user": rule.user,
        "prefix": String::from_utf8_lossy(&rule.prefix),
        "per_second": some(rule.per_second),
        "burst": some(rule.burst),
        "in_flight": some(rule.in_flight),
        "priority": priority(rule),
        "max_bytes": rule.bytes,
        "max_keys": rule.keys,
    })
}

fn use_json(told: &LimitUse) -> Value {
    let rule = told.rule.clone().unwrap_or_default();
    let mut json = rule_json(&rule);
    if let Some(fields) = json.as_object_mut() {
        let used = |used: u64, max: Option<u64>| json!(max.map(|_| used));
        fields.insert("bytes".to_owned(), used(told.bytes, rule.bytes));
        fields.insert("keys".to_owned(), used(told.keys, rule.keys));
    }
    json
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        for (text, number) in [("0", 0), ("17", 17), ("4KiB", 4_096), ("64MiB", 64 << 20)] {
            assert_eq!(bytes(text), Ok(number), "{text}");
        }
        for text in ["", "MiB", "1MB", "-1", "1.5GiB", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
