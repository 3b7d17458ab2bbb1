//! The three places settings come from, with etcd's precedence.
//!
//! ```text
//! a file is given (--config-file or ETCD_CONFIG_FILE)   ->  the file alone counts
//! no file                                               ->  flags, then ETCD_* for the others
//! ```
//!
//! Source: etcd `server/etcdmain/config.go`, `pkg/flags/flag.go`. Where etcd ignores something in
//! silence (flags beside a file, unknown YAML keys) we warn or refuse.

use crate::serve::error::UsageError;
use crate::serve::flag::{Flag, Kind};
use crate::serve::settings::Settings;
use crate::serve::table;
use std::collections::BTreeMap;
use yaml_rust2::{Yaml, YamlLoader};

const CONFIG_FILE_VARIABLE: &str = "ETCD_CONFIG_FILE";

/// Variables that etcd reads and that are no flags.
const OTHER_VARIABLES: [&str; 1] = ["ETCD_UNSUPPORTED_ARCH"];

/// What the command line asks for.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// Flags in the order given.
    pub(super) flags: Vec<(&'static Flag, String)>,
    /// Path of the configuration file.
    pub(super) config_file: Option<String>,
    /// `--help`.
    pub(super) help: bool,
    /// `--version`.
    pub(super) version: bool,
}

/// Reads `--flag=value`, `--flag value`, `-flag`, and boolean flags without a value.
///
/// Source: Go's package `flag`. Errors: unknown flags, stray words, missing values.
pub(super) fn read_arguments(words: &[String]) -> Result<Arguments, UsageError> {
    let mut arguments = Arguments::default();
    let mut words = words.iter();
    let mut last_switch = None;
    while let Some(word) = words.next() {
        let Some(body) = flag_body(word) else {
            return Err(UsageError::NotAFlag { word: word.clone(), after: last_switch });
        };
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        last_switch = None;
        match (name, value) {
            ("help" | "h", _) => arguments.help = true,
            ("version", _) => arguments.version = true,
            ("config-file", value) => {
                let value = value.or_else(|| words.next().cloned());
                let missing = UsageError::MissingValue { flag: "config-file" };
                arguments.config_file = Some(value.ok_or(missing)?);
            }
            (name, value) => {
                let unknown = || UsageError::UnknownFlag { name: name.to_owned() };
                let flag = table::find(name).ok_or_else(unknown)?;
                let value = match value {
                    Some(value) => value,
                    None if flag.kind == Kind::Bool => {
                        last_switch = Some(flag.name);
                        "true".to_owned()
                    }
                    None => {
                        let missing = UsageError::MissingValue { flag: flag.name };
                        words.next().cloned().ok_or(missing)?
                    }
                };
                arguments.flags.push((flag, value));
            }
        }
    }
    Ok(arguments)
}

/// Brings everything together.
///
/// `variables` is the environment; `read` reads a file.
pub(super) fn gather(
    arguments: Arguments,
    variables: &BTreeMap<String, String>,
    read: impl FnOnce(&str) -> std::io::Result<String>,
) -> Result<Settings, UsageError> {
    let named = variables.get(CONFIG_FILE_VARIABLE).filter(|path| !path.is_empty());
    let path = arguments.config_file.clone().or_else(|| named.cloned());
    let mut settings = Settings::default();
    let Some(path) = path else {
        for (flag, value) in arguments.flags {
            settings.set(flag, value, format!("--{}", flag.name))?;
        }
        add_variables(&mut settings, variables)?;
        return Ok(settings);
    };
    let text = read(&path).map_err(|error| UsageError::Unreadable { path: path.clone(), error })?;
    for (flag, _) in &arguments.flags {
        let warning = format!("--{} is ignored because a configuration file is given", flag.name);
        settings.warnings.push(warning);
    }
    add_file(&mut settings, &path, &text)?;
    Ok(settings)
}

/// The text after the dashes; `None` for a word that is no flag.
fn flag_body(word: &str) -> Option<&str> {
    let body = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    if body.is_empty() || body.starts_with(['-', '=']) { None } else { Some(body) }
}

fn add_variables(
    settings: &mut Settings,
    variables: &BTreeMap<String, String>,
) -> Result<(), UsageError> {
    let by_variable: BTreeMap<String, &'static Flag> =
        table::flags().map(|flag| (flag.variable(), flag)).collect();
    for (variable, value) in variables {
        let other = OTHER_VARIABLES.contains(&variable.as_str());
        if !variable.starts_with("ETCD_") || variable == CONFIG_FILE_VARIABLE || other {
            continue;
        }
        let Some(flag) = by_variable.get(variable) else {
            settings.warnings.push(format!("unrecognized environment variable {variable}"));
            continue;
        };
        if settings.contains(flag) {
            settings.warnings.push(format!(
                "recognized environment variable {variable}, but unused: shadowed by \
                 corresponding flag --{}",
                flag.name
            ));
        } else if !value.is_empty() {
            settings.set(flag, value.clone(), variable.clone())?;
        }
    }
    Ok(())
}

fn add_file(settings: &mut Settings, path: &str, text: &str) -> Result<(), UsageError> {
    let not_yaml = |reason: String| UsageError::NotYaml { path: path.to_owned(), reason };
    let documents = YamlLoader::load_from_str(text).map_err(|error| not_yaml(error.to_string()))?;
    let table = match documents.as_slice() {
        [] | [Yaml::Null] => return Ok(()),
        [Yaml::Hash(table)] => table,
        _ => return Err(not_yaml("it must be one table of KEY: VALUE lines".to_owned())),
    };
    for (key, value) in table {
        let key = scalar(key).ok_or_else(|| not_yaml("a key is not a word".to_owned()))?;
        let Yaml::Hash(section) = value else {
            add_key(settings, path, &key, value)?;
            continue;
        };
        if !table::flags().any(|flag| flag.yaml.starts_with(&format!("{key}."))) {
            return Err(UsageError::UnknownKey { key, path: path.to_owned() });
        }
        for (inner, value) in section {
            let inner = scalar(inner).ok_or_else(|| not_yaml("a key is not a word".to_owned()))?;
            add_key(settings, path, &format!("{key}.{inner}"), value)?;
        }
    }
    Ok(())
}

fn add_key(settings: &mut Settings, path: &str, key: &str, value: &Yaml) -> Result<(), UsageError> {
    let given = format!("\"{key}\" in {path}");
    let section = table::flags().any(|flag| flag.yaml.starts_with(&format!("{key}.")));
    if section && *value == Yaml::Null {
        return Ok(());
    }
    let unknown = || UsageError::UnknownKey { key: key.to_owned(), path: path.to_owned() };
    let flag = table::flags().find(|flag| flag.yaml == key).ok_or_else(unknown)?;
    let text = match value {
        Yaml::Null => return Ok(()),
        Yaml::Array(items) => {
            items.iter().map(scalar).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        // etcd reads durations from YAML as Go's JSON does: whole nanoseconds.
        Yaml::Integer(nanos) if flag.kind == Kind::Duration => Some(format!("{nanos}ns")),
        value => scalar(value),
    };
    let Some(text) = text else {
        let wanted = "a plain value or a list of plain values";
        return Err(UsageError::BadValue { given, value: format!("{value:?}"), wanted });
    };
    // An empty value means "not given" in a file, as in etcd's sample file.
    if text.is_empty() { Ok(()) } else { settings.set(flag, text, given) }
}

fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(switch) => Some(switch.to_string()),
        _ => None,
    }
}
