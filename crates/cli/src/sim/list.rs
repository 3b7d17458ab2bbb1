//! `quorate sim list`: every word that the other options take.

use crate::output;
use quorate_core::SystemModel;
use quorate_drivers::simulate::Fault;
use quorate_sim::REGISTRY;
use serde_json::{Value, json};

/// What can be switched on and off beside the faults: name, default, meaning.
const SWITCHES: &[(&str, &str, &str)] = &[(
    "buggify",
    "on; off with --faults none",
    "Rare paths of the service's own code are taken on purpose in some runs.",
)];

/// Prints it.
pub(super) fn run(json: bool) {
    if json {
        output::line(as_json());
        return;
    }
    output::line("PROTOCOLS, with their workloads and the properties that are judged");
    for entry in REGISTRY {
        output::line(format_args!("  {:<10} {}", entry.name, entry.about));
        output::line(format_args!("  {:<10} needs {}", "", entry.model));
        for workload in entry.workloads {
            output::line(format_args!("  {:<10}   {:<8} {}", "", workload.name, workload.about));
        }
        output::line(format_args!("  {:<10} {}", "", entry.properties.join(", ")));
    }
    output::line("");
    output::line("FAULTS; * those that the default model permits");
    for fault in Fault::ALL {
        let mark = if fault.permitted(&SystemModel::DATA_CENTRE) { '*' } else { ' ' };
        output::line(format_args!("{mark} {:<17} {}", fault.name(), fault.meaning()));
    }
    output::line("");
    output::line("SWITCHES");
    for (name, default, meaning) in SWITCHES {
        output::line(format_args!("  {name:<17} {meaning} [default: {default}]"));
    }
    output::line("");
    match mutants() {
        Some(mutants) => {
            output::line("PLANTED BUGS");
            for (name, what, source) in mutants {
                output::line(format_args!("  {name:<29} {what} ({source})"));
            }
        }
        None => output::line("PLANTED BUGS: only in a build with '--features mutants'"),
    }
}

fn as_json() -> Value {
    let protocols: Vec<Value> = REGISTRY
        .iter()
        .map(|entry| {
            let workloads: Vec<&str> = entry.workloads.iter().map(|known| known.name).collect();
            json!({
                "name": entry.name,
                "about": entry.about,
                "model": entry.model.to_string(),
                "workloads": workloads,
                "properties": entry.properties,
            })
        })
        .collect();
    let faults: Vec<Value> = Fault::ALL
        .iter()
        .map(|fault| {
            json!({
                "name": fault.name(),
                "meaning": fault.meaning(),
                "default": fault.permitted(&SystemModel::DATA_CENTRE),
            })
        })
        .collect();
    let mutants: Vec<Value> = mutants()
        .unwrap_or_default()
        .into_iter()
        .map(|(name, what, source)| json!({ "name": name, "what": what, "source": source }))
        .collect();
    let switches: Vec<Value> = SWITCHES
        .iter()
        .map(|(name, default, meaning)| {
            json!({ "name": name, "default": default, "meaning": meaning })
        })
        .collect();
    json!({
        "protocols": protocols, "faults": faults, "switches": switches, "mutants": mutants,
    })
}

type Planted = (&'static str, &'static str, &'static str);

#[cfg(feature = "mutants")]
fn mutants() -> Option<Vec<Planted>> {
    let cases = quorate_sim::mutants::cases();
    Some(cases.map(|case| (case.name, case.what, case.source)).collect())
}

#[cfg(not(feature = "mutants"))]
fn mutants() -> Option<Vec<Planted>> {
    None
}
