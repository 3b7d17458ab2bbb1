//! What is known about one flag of etcd.

/// One flag, which is also one environment variable and one YAML key.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Name without dashes.
    pub(crate) name: &'static str,
    /// Key in the YAML file, with a dot for each level; mostly the name.
    pub(crate) yaml: &'static str,
    /// What values it takes.
    pub(crate) kind: Kind,
    /// The value if none is given, as `--help` prints it.
    pub(crate) default: &'static str,
    /// What quorate does with it.
    pub(crate) standing: Standing,
}

/// What values a flag takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Anything.
    Text,
    /// `true` or `false`; the flag alone means `true`.
    Bool,
    /// A whole number, not negative.
    Count,
    /// A whole number that may be negative.
    Integer,
    /// A duration as Go writes it: `100ms`, `1h30m`. In YAML also whole nanoseconds, as in etcd.
    Duration,
    /// A comma-separated list; in YAML also a sequence.
    List,
    /// The same; given again, a flag adds to it.
    Repeated,
}

/// What quorate does with a flag.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standing {
    /// It means what it means to etcd: the text for `--help`.
    Used(&'static str),
    /// Nothing depends on it here, for the reason given; a warning says so.
    Accepted(&'static str),
    /// Ignoring it would weaken security or change the meaning of the data, so any value other than
    /// the default is refused: "not supported yet", and why or what instead.
    Later(&'static str),
    /// An older name of another flag.
    Renamed(&'static str),
}

/// Flags under one heading of `--help`.
#[derive(Debug)]
pub(crate) struct Group {
    /// The heading.
    pub(crate) title: &'static str,
    /// Its flags.
    pub(crate) flags: &'static [Flag],
}

impl Flag {
    /// A flag that means what it means to etcd.
    pub(crate) const fn used(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        about: &'static str,
    ) -> Flag {
        Flag { name, yaml: name, kind, default, standing: Standing::Used(about) }
    }

    /// A flag that is not needed.
    pub(crate) const fn accepted(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        reason: &'static str,
    ) -> Flag {
        Flag { name, yaml: name, kind, default, standing: Standing::Accepted(reason) }
    }

    /// A flag that is refused for now.
    pub(crate) const fn later(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        reason: &'static str,
    ) -> Flag {
        Flag { name, yaml: name, kind, default, standing: Standing::Later(reason) }
    }

    /// An older name; kind and default are those of the new one.
    pub(crate) const fn renamed(name: &'static str, kind: Kind, new: &'static str) -> Flag {
        Flag { name, yaml: name, kind, default: "", standing: Standing::Renamed(new) }
    }

    /// The same flag with another key in the YAML file.
    pub(crate) const fn yaml(self, yaml: &'static str) -> Flag {
        Flag { yaml, ..self }
    }

    /// The environment variable: `ETCD_` and the name in capitals with underscores.
    pub(crate) fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}
