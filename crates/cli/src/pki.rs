//! `quorate pki`: a CA, and certificates for members and clients, without another tool.
//!
//! ```text
//! DIR/ca.crt     what everybody trusts       DIR/ca.key     who has it can sign: keep it apart
//! DIR/NAME.crt   a certificate of the CA     DIR/NAME.key   its key, mode 0600
//! ```

use crate::output;
use clap::{Args, Subcommand};
use quorate_server::tls::pki::{
    Authority, CA_DAYS_DEFAULT, DAYS_DEFAULT, DAYS_MAX, Existing, PkiError, Purpose, Wanted,
};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// File names of the CA, without their endings.
pub(crate) const CA: &str = "ca";

/// Where a member can always be asked by who is on its machine.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const EXAMPLES: &str = "\
Examples:
  quorate pki init
  quorate pki issue member m1 --host 10.0.0.1 --host m1.example.com
  quorate pki issue client alice --days 30
  quorate serve --cert-file quorate-pki/m1.crt --key-file quorate-pki/m1.key \\
    --trusted-ca-file quorate-pki/ca.crt --client-cert-auth ...

The CommonName of a client's certificate is the user it stands for. Keys are ECDSA P-256, readable
for their owner alone; nothing is replaced without --force.
Exit status: 0 done, 2 not done.";

/// The flags of `quorate pki`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
    /// Directory of the CA and of what it signs
    #[arg(long, global = true, value_name = "DIR", default_value = "./quorate-pki")]
    dir: PathBuf,
    /// Replace what is there
    #[arg(long, global = true)]
    force: bool,
    /// One JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a CA
    Init {
        /// Its name
        #[arg(long, default_value = "quorate CA")]
        name: String,
        /// Days that it is good for
        #[arg(long, default_value_t = CA_DAYS_DEFAULT)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
        days: u32,
    },
    /// Make a certificate that the CA has signed
    Issue {
        #[command(subcommand)]
        whose: Whose,
    },
}

#[derive(Debug, Subcommand)]
enum Whose {
    /// For a member: to serve with, and to call other members with
    Member {
        /// Its name; the files are called like it
        name: String,
        /// Names and addresses where it is reached, besides localhost; may be given again
        #[arg(long = "host", value_name = "HOST", required = true, value_delimiter = ',')]
        hosts: Vec<String>,
        /// Days that it is good for
        #[arg(long, default_value_t = DAYS_DEFAULT)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
        days: u32,
    },
    /// For a client
    Client {
        /// Its name, which is also the CommonName; the files are called like it
        name: String,
        /// Days that it is good for
        #[arg(long, default_value_t = DAYS_DEFAULT)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
        days: u32,
    },
}

/// What was written.
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    /// The files of that name.
    pub(crate) fn of(dir: &Path, name: &str) -> Pair {
        let file = |ending: &str| dir.join(format!("{name}.{ending}"));
        Pair { cert: file("crt"), key: file("key") }
    }
}

/// Does it.
pub(crate) fn run(options: &Options) -> ExitCode {
    match work(options) {
        Ok(pair) if options.json => output::line(json!({ "cert": pair.cert, "key": pair.key })),
        Ok(pair) => {
            output::line(format_args!("certificate  {}", pair.cert.display()));
            output::line(format_args!("key          {} (keep it secret)", pair.key.display()));
        }
        Err(error) => {
            output::complain(error);
            return ExitCode::from(crate::EXIT_USAGE);
        }
    }
    ExitCode::SUCCESS
}

fn work(options: &Options) -> Result<Pair, PkiError> {
    let existing = if options.force { Existing::Replace } else { Existing::Keep };
    match &options.command {
        Command::Init { name, days } => init(&options.dir, name, *days, existing),
        Command::Issue { whose } => issue(&options.dir, &wanted(whose), existing),
    }
}

fn wanted(whose: &Whose) -> Wanted {
    let (name, purpose, given, days) = match whose {
        Whose::Member { name, hosts, days } => (name, Purpose::Member, &hosts[..], *days),
        Whose::Client { name, days } => (name, Purpose::Client, &[][..], *days),
    };
    let mut hosts = given.to_vec();
    if purpose == Purpose::Member {
        let missing = LOCAL_HOSTS.iter().filter(|local| !given.iter().any(|host| host == *local));
        hosts.extend(missing.map(|local| (*local).to_owned()));
    }
    let days = i32::try_from(days).expect("checked when it was read");
    Wanted { name: name.clone(), purpose, hosts, days }
}

/// Makes a CA in `dir`. Errors: there is one, or the directory cannot be written.
pub(crate) fn init(
    dir: &Path,
    name: &str,
    days: u32,
    existing: Existing,
) -> Result<Pair, PkiError> {
    fs::create_dir_all(dir).map_err(|error| PkiError::Io { path: dir.to_owned(), error })?;
    let pair = Pair::of(dir, CA);
    Authority::create(name, days)?.own().write(&pair.cert, &pair.key, existing)?;
    Ok(pair)
}

/// Lets the CA in `dir` sign a certificate. Errors: there is no CA, or the files are there.
pub(crate) fn issue(dir: &Path, wanted: &Wanted, existing: Existing) -> Result<Pair, PkiError> {
    issue_as(dir, &wanted.name, wanted, existing)
}

/// As [`issue`], into files called `file`.
pub(crate) fn issue_as(
    dir: &Path,
    file: &str,
    wanted: &Wanted,
    existing: Existing,
) -> Result<Pair, PkiError> {
    if file == CA || !is_file_name(file) {
        let why = format!(
            "\"{file}\" cannot be the name of a file here; use letters, digits, '.', '-' and '_'"
        );
        return Err(PkiError::Make { why });
    }
    let ca = Pair::of(dir, CA);
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| PkiError::Authority {
            why: format!("cannot read {}: {error}", path.display()),
        })
    };
    let authority = Authority::load(&read(&ca.cert)?, &read(&ca.key)?)?;
    let pair = Pair::of(dir, file);
    authority.issue(wanted)?.write(&pair.cert, &pair.key, existing)?;
    Ok(pair)
}

fn is_file_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_file_and_leaves_the_directory_alone() {
        for name in ["m1", "alice@example.com", "a-b_c.d"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", ".", "../x", "a/b", "a b", "ä", ".hidden"] {
            assert!(!is_file_name(name), "{name:?}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        init(dir.path(), "CA", 10, Existing::Keep).expect("a CA");
        let refused = issue(dir.path(), &Wanted::client("ca"), Existing::Replace);
        assert!(refused.is_err(), "the CA is not replaced by a client");
        issue(dir.path(), &Wanted::client("root"), Existing::Keep).expect("signed");
    }

    #[test]
    fn a_member_is_always_reached_from_its_own_machine() {
        let hosts = vec!["10.0.0.1".to_owned(), "localhost".to_owned()];
        let wanted = wanted(&Whose::Member { name: "m1".to_owned(), hosts, days: 1 });
        assert_eq!(wanted.hosts, ["10.0.0.1", "localhost", "127.0.0.1", "::1"]);
    }
}
