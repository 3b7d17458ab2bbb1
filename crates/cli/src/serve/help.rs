//! `serve --help` and `etcd --version`, printed from the table.

use crate::serve::flag::{Flag, Kind, Standing};
use crate::serve::table::GROUPS;
use quorate_server::api::ETCD_VERSION;
use std::fmt::Write as _;

const HEAD: &str = "\
Run one member, with etcd's flags, environment variables and configuration file.

Usage: quorate serve [FLAGS]        (a link named 'etcd' to this program does the same)

Examples:
  quorate serve
  quorate serve --name a --data-dir /var/lib/quorate \\
    --listen-client-urls http://10.0.0.1:2379 --advertise-client-urls http://10.0.0.1:2379 \\
    --listen-peer-urls http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380 \\
    --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380
  quorate serve --config-file /etc/etcd/etcd.conf.yml
  ETCD_NAME=a ETCD_DATA_DIR=/var/lib/etcd quorate serve

Each flag --some-flag is also the variable ETCD_SOME_FLAG (a flag wins over its variable) and the
key some-flag of the YAML file. With a file, flags and variables are ignored.

  --config-file ''
    Path to the YAML file; also ETCD_CONFIG_FILE.
  --version
    Print the version.
  --help
    Print this.
";

/// The whole help text.
pub(crate) fn long_help() -> String {
    let mut text = HEAD.to_owned();
    for group in GROUPS {
        let _ = writeln!(text, "\n{}:", group.title);
        for flag in group.flags {
            write_flag(&mut text, flag);
        }
    }
    text
}

/// What `etcd --version` prints; scripts take the third word of the first line.
pub(crate) fn etcd_version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: quorate {}\nGo Version: none (Rust)\n\
         Go OS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    )
}

fn write_flag(text: &mut String, flag: &Flag) {
    let default = match flag.kind {
        Kind::Count | Kind::Integer | Kind::Bool => flag.default.to_owned(),
        Kind::Text | Kind::Duration | Kind::List | Kind::Repeated => format!("'{}'", flag.default),
    };
    // Writing to a string cannot fail.
    let _ = match flag.standing {
        Standing::Used(about) => writeln!(text, "  --{} {default}\n    {about}", flag.name),
        Standing::Accepted(reason) => {
            writeln!(text, "  --{} {default}\n    (accepted, not needed: {reason})", flag.name)
        }
        Standing::Later(reason) => {
            writeln!(text, "  --{} {default}\n    (not supported: {reason})", flag.name)
        }
        Standing::Renamed(new) => writeln!(text, "  --{}\n    (now --{new})", flag.name),
    };
    if flag.yaml != flag.name {
        let _ = writeln!(text, "    YAML: {}", flag.yaml);
    }
}
