//! The settings that were given, before they mean anything.
//!
//! Three notations (flags, variables, YAML) end here as one map from flag to text. Each text has
//! been checked against the kind of its flag, and remembers how it was given, so that a message
//! names `ETCD_NAME` to who wrote `ETCD_NAME`.

use crate::serve::duration;
use crate::serve::error::UsageError;
use crate::serve::flag::{Flag, Kind, Standing};
use crate::serve::table;
use std::collections::BTreeMap;
use std::time::Duration;

/// What was given, by flag.
#[derive(Debug, Default)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, Setting>,
    /// What the operator should know, in the order in which it was found.
    pub(super) warnings: Vec<String>,
}

#[derive(Debug)]
struct Setting {
    text: String,
    given: String,
}

impl Settings {
    /// Sets a flag; a later value replaces an earlier one, as on etcd's command line,
    /// unless the flag can be repeated.
    ///
    /// `given` is the setting as the user wrote it, for messages.
    /// Errors: a value of the wrong kind, or one that cannot be honoured.
    pub(super) fn set(
        &mut self,
        flag: &'static Flag,
        text: String,
        given: String,
    ) -> Result<(), UsageError> {
        check_kind(flag.kind, &text, &given)?;
        let mut name = flag.name;
        match flag.standing {
            Standing::Used(_) => {}
            Standing::Accepted(reason) => {
                if !is_default(flag, &text) {
                    self.warnings.push(format!("{given} is accepted and not needed: {reason}"));
                }
            }
            Standing::Later(reason) => {
                if !is_default(flag, &text) {
                    return Err(UsageError::Unsupported { given, value: text, reason });
                }
            }
            Standing::Renamed(new) => {
                self.warnings.push(format!("{given} is deprecated; its name is now --{new}"));
                let target = table::find(new).expect("a test of the table checks it");
                name = target.name;
                if !matches!(target.standing, Standing::Used(_)) {
                    return self.set(target, text, given);
                }
            }
        }
        let text = match self.values.get(name) {
            Some(earlier) if flag.kind == Kind::Repeated => format!("{},{text}", earlier.text),
            _ => text,
        };
        self.values.insert(name, Setting { text, given });
        Ok(())
    }

    /// True if a value other than the empty one was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// True if this very flag was set to anything.
    pub(super) fn contains(&self, flag: &Flag) -> bool {
        self.values.contains_key(flag.name)
    }

    /// The text given; an empty one counts as not given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        assert!(table::find(name).is_some(), "--{name} is not in the table");
        self.values.get(name).map(|setting| setting.text.as_str()).filter(|text| !text.is_empty())
    }

    /// How it was given, for messages.
    pub(super) fn given(&self, name: &str) -> String {
        self.values.get(name).map_or_else(|| format!("--{name}"), |setting| setting.given.clone())
    }

    /// Overwrites `target` with the switch, if given.
    pub(super) fn switch(&self, name: &str, target: &mut bool) {
        if let Some(text) = self.text(name) {
            *target = parse_bool(text).expect("checked when it was set");
        }
    }

    /// Overwrites `target` with the number, if given.
    ///
    /// Errors: the number is too large for its purpose.
    pub(super) fn number<T: TryFrom<u64>>(
        &self,
        name: &str,
        target: &mut T,
    ) -> Result<(), UsageError> {
        let Some(text) = self.text(name) else { return Ok(()) };
        let value = text.parse::<u64>().ok().and_then(|value| T::try_from(value).ok());
        *target = value.ok_or_else(|| self.bad(name, "a smaller number"))?;
        Ok(())
    }

    /// Overwrites `target` with a duration in Go's notation, if given.
    pub(super) fn duration(&self, name: &str, target: &mut Duration) {
        if let Some(text) = self.text(name) {
            *target = duration::parse(text).expect("checked when it was set");
        }
    }

    /// Overwrites `target` with a number of `unit`s, if given.
    pub(super) fn duration_in(
        &self,
        name: &str,
        unit: Duration,
        target: &mut Duration,
    ) -> Result<(), UsageError> {
        let Some(text) = self.text(name) else { return Ok(()) };
        let count = text.parse::<u32>().map_err(|_| self.bad(name, "a smaller number"))?;
        *target = unit.saturating_mul(count);
        Ok(())
    }

    /// The error for a value that cannot be used.
    pub(super) fn bad(&self, name: &str, wanted: &'static str) -> UsageError {
        let value = self.text(name).unwrap_or_default().to_owned();
        UsageError::BadValue { given: self.given(name), value, wanted }
    }
}

/// Go's idea of a boolean (`strconv.ParseBool`).
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn check_kind(kind: Kind, text: &str, given: &str) -> Result<(), UsageError> {
    let (fits, wanted) = match kind {
        Kind::Text | Kind::List | Kind::Repeated => (true, ""),
        Kind::Bool => (parse_bool(text).is_some(), "true or false"),
        Kind::Count => (text.parse::<u64>().is_ok(), "a whole number"),
        Kind::Integer => (text.parse::<i64>().is_ok(), "a whole number"),
        Kind::Duration => {
            (text.is_empty() || duration::parse(text).is_some(), "a duration like 100ms, 5s or 2h")
        }
    };
    if fits {
        return Ok(());
    }
    Err(UsageError::BadValue { given: given.to_owned(), value: text.to_owned(), wanted })
}

fn is_default(flag: &Flag, text: &str) -> bool {
    match flag.kind {
        Kind::Bool => parse_bool(text) == parse_bool(flag.default),
        Kind::Duration => duration::parse(text) == duration::parse(flag.default),
        _ => text == flag.default || text.is_empty(),
    }
}
