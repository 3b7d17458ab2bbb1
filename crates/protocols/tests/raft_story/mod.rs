//! The words of Raft's transcripts.
//!
//! ```text
//! cluster nodes=5 learners=n5 term=3 log=1,1,2 n2.term=4 n2.log=1,1,3
//!                                                  terms of the entries that are on disk already
//! cluster nodes=3 lease=250                        lease reads, with promises of so many ms
//! request n1 propose apple | read 7 | transfer n2 | compact 5 | forget 5
//! request n1 suspect n2 | trust 5000 | confirm 7   its clock is vouched for until 5000 ms
//! request n1 reconfigure voters=n1,n2,n4 learners=n5
//! request n3 installed 5@2 voters=n1,n2,n3         the layer above has stored a state
//! request n1 sent n3 5@2 | failed n3               the layer above has, or has not, sent one
//! ```

pub(super) mod flawed;

use quorate_core::{Index, NodeId, Position, Term, Time};
use quorate_drivers::scenario::{Misread, Options, Seat, Transcript};
use quorate_protocols::consensus::raft::{
    self, Body, Config, Configuration, Entry, Ground, Indication, LeaseTerms, Message, Mutant,
    Payload, Raft, Record, Request,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// Every known mistake, by its name.
const MUTANTS: &[Mutant] = &[
    Mutant::AckBeforeDurable,
    Mutant::VoteWithoutPersisting,
    Mutant::VoteTwice,
    Mutant::CommitOldTerms,
    Mutant::ReadWithoutQuorum,
    Mutant::ReadBeforeOwnCommit,
    Mutant::ReadAnswerOfFormerLife,
    Mutant::DuplicateVotesCounted,
    Mutant::JointBypassed,
    Mutant::LearnerCounted,
    Mutant::PurgedPrevTruncates,
    Mutant::MendingVotes,
    Mutant::ReconfigureEarly,
    Mutant::VoteForAnyLog,
    Mutant::ForwardTakenTwice,
    Mutant::RefusedForwardForgotten,
    Mutant::PromiseYieldsToEvidence,
    Mutant::LeaseOutlivesTransfer,
];

pub(super) struct RaftStory;

impl Transcript for RaftStory {
    type Node = Raft;

    fn seat(
        node: NodeId,
        members: &[NodeId],
        options: &mut Options,
    ) -> Result<Seat<Raft>, Misread> {
        let learners = options.value("learners").map(nodes).transpose()?.unwrap_or_default();
        let voters = members.iter().copied().filter(|id| !learners.contains(id));
        let configuration =
            Configuration { learners: learners.clone(), ..Configuration::of(voters) };
        let mut config = Config::new(node, configuration);
        config.append_bytes_max = options.parsed("append_bytes_max", config.append_bytes_max)?;
        config.inflight_max = options.parsed("inflight_max", config.inflight_max)?;
        config.uncommitted_bytes_max =
            options.parsed("uncommitted_bytes_max", config.uncommitted_bytes_max)?;
        let length = Duration::from_millis(options.parsed("lease", 0)?);
        config.lease_reads =
            Some(LeaseTerms { length, drift_ppm: 1_000 }).filter(|terms| !terms.length.is_zero());
        Ok(Seat { config, records: records(node, options)? })
    }

    fn request(words: &[&str]) -> Result<Request, Misread> {
        match words {
            ["propose", command] => Ok(Request::Propose { command: (*command).to_owned().into() }),
            ["read", ticket] => Ok(Request::Read { ticket: number("ticket", ticket)? }),
            ["confirm", ticket] => Ok(Request::Confirm { ticket: number("ticket", ticket)? }),
            ["suspect", peer] => Ok(Request::Suspect { peer: node(peer)? }),
            ["trust", until] => {
                let until = Time::from_nanos(number("milliseconds", until)? * 1_000_000);
                Ok(Request::TrustClock { until })
            }
            ["transfer", to] => Ok(Request::TransferLeadership { to: node(to)? }),
            ["forget", upto] => Ok(Request::Forget { upto: Index(number("index", upto)?) }),
            ["compact", upto] => Ok(Request::Compact { upto: Index(number("index", upto)?) }),
            ["reconfigure", rest @ ..] => {
                let Configuration { incoming, learners, .. } = configuration(rest)?;
                Ok(Request::Reconfigure { voters: incoming, learners })
            }
            ["installed", at, rest @ ..] => Ok(Request::Installed {
                position: position(at)?,
                configuration: configuration(rest)?,
            }),
            ["sent", to, at] => {
                Ok(Request::SnapshotSent { to: node(to)?, position: position(at)? })
            }
            ["failed", to] => Ok(Request::SnapshotFailed { to: node(to)? }),
            words => Err(Misread::wanted("request", &words.join(" "))),
        }
    }

    fn message(message: &Message) -> String {
        let Message { term, body } = message;
        let (kind, rest) = match body {
            Body::PreVote { campaign, last } => ("PreVote", format!("for={campaign} last={last}")),
            Body::PreVoteReply { campaign, verdict } => {
                ("PreVoteReply", format!("for={campaign} {verdict:?}"))
            }
            Body::Vote { last, cause } => ("Vote", format!("last={last} cause={cause:?}")),
            Body::VoteReply { verdict } => ("VoteReply", format!("{verdict:?}")),
            Body::Append { prev, entries, commit } => {
                ("Append", format!("prev={prev} [{}] commit={commit}", print_entries(entries)))
            }
            Body::Appended { matched } => ("Appended", format!("matched={matched}")),
            Body::AppendRejected { prev, hint } => {
                ("AppendRejected", format!("prev={prev} hint={hint}"))
            }
            Body::Heartbeat { round, commit, lease, .. } => (
                "Heartbeat",
                format!("round={round} commit={commit}{}", print_span("lease", *lease)),
            ),
            Body::Committed { commit } => ("Committed", format!("commit={commit}")),
            Body::HeartbeatReply { round, promise } => {
                ("HeartbeatReply", format!("round={round}{}", print_span("promise", *promise)))
            }
            Body::Forward { life, batch, commands } => {
                let commands: Vec<_> = commands.iter().map(|command| print(command)).collect();
                ("Forward", format!("life={life} batch={batch} {}", commands.join(", ")))
            }
            Body::ForwardRefused { life, batch, first, why } => {
                ("ForwardRefused", format!("life={life} batch={batch} first={first} {why:?}"))
            }
            Body::ReadIndex { life, batch } => ("ReadIndex", format!("life={life} batch={batch}")),
            Body::ReadIndexReply { life, batch, read_index } => {
                let index = match read_index {
                    None => "none".to_owned(),
                    Some((index, ground)) => format!("{index}{}", print_ground(*ground)),
                };
                ("ReadIndexReply", format!("life={life} batch={batch} read_index={index}"))
            }
            Body::TimeoutNow => ("TimeoutNow", String::new()),
        };
        format!("{kind} term={term} {rest}").trim_end().to_owned()
    }

    fn record(record: &Record) -> String {
        match record {
            Record::Life { number } => format!("Life {number}"),
            Record::HardState { term, vote: None } => format!("HardState term={term}"),
            Record::HardState { term, vote: Some(vote) } => {
                format!("HardState term={term} vote={vote}")
            }
            Record::Entry(entry) => format!("Entry {}", print_entry(entry)),
            Record::Commit(index) => format!("Commit {index}"),
            Record::Snapshot { position, configuration } => {
                format!("Snapshot {position} {}", print_configuration(configuration))
            }
            Record::Replaced { position, configuration } => {
                format!("Replaced {position} {}", print_configuration(configuration))
            }
            Record::Mending { last } => format!("Mending last={last}"),
            Record::Mended => "Mended".to_owned(),
            Record::Damaged { position: Some(position) } => format!("Damaged {position}"),
            Record::Damaged { position: None } => "Damaged".to_owned(),
        }
    }

    fn indication(indication: &Indication) -> String {
        match indication {
            Indication::Committed { entries } => format!("Committed {}", print_entries(entries)),
            Indication::RoleChanged { role, term, leader } => {
                let leader = leader.map_or("none".to_owned(), |leader| leader.to_string());
                format!("RoleChanged {role:?} term={term} leader={leader}")
            }
            Indication::Refused { command, why } => format!("Refused {} {why:?}", print(command)),
            Indication::ReadReady { ticket, read_index, ground } => {
                format!("ReadReady {ticket} read_index={read_index}{}", print_ground(*ground))
            }
            Indication::ReadRefused { ticket } => format!("ReadRefused {ticket}"),
            Indication::SnapshotWanted { by } => format!("SnapshotWanted by={by}"),
            Indication::Configured { configuration, standing } => {
                format!("Configured {} {standing:?}", print_configuration(configuration))
            }
            Indication::ReconfigureRefused { why } => format!("ReconfigureRefused {why:?}"),
            Indication::TransferEnded { to, outcome } => format!("TransferEnded {to} {outcome:?}"),
            Indication::Removed => "Removed".to_owned(),
        }
    }

    fn state(node: &Raft) -> String {
        let terms: Vec<String> =
            node.entries().map(|entry| entry.position.term.to_string()).collect();
        let base = match node.base() {
            Position::ZERO => String::new(),
            base => format!("({base}) "),
        };
        let mending = if node.is_mending() { " mending" } else { "" };
        let error = node.restore_error().map_or(String::new(), |error| format!(" {error:?}"));
        format!(
            "{:?} term={} commit={} log={base}{}{mending}{error}",
            node.role(),
            node.term(),
            node.commit_index(),
            terms.join(",")
        )
    }

    /// The identity of an entry is kept apart from its payload, and outlives it.
    fn damaged(record: &Record) -> Option<Record> {
        let position = match record {
            Record::Entry(entry) => entry.position,
            _ => Position::ZERO,
        };
        Some(Record::Damaged { position: Some(position) })
    }

    fn safety(nodes: &[&Raft]) {
        raft::safety(nodes);
    }
}

/// What is on the disk of `node` before the story begins.
fn records(node: NodeId, options: &mut Options) -> Result<Vec<Record>, Misread> {
    let common = options.value("log").unwrap_or_default().to_owned();
    let log = options.value(&format!("{node}.log")).map_or(common, str::to_owned);
    let terms = log.split(',').filter(|word| !word.is_empty());
    let terms: Vec<u64> = terms.map(|word| number("term", word)).collect::<Result<_, _>>()?;
    let last = terms.iter().copied().max().unwrap_or(0);
    let common = options.parsed("term", last)?;
    let term = options.parsed(&format!("{node}.term"), common.max(last))?;
    if term == 0 {
        return Ok(Vec::new());
    }
    let hard_state = Record::HardState { term: Term(term), vote: None };
    let entries = terms.iter().zip(1..).map(|(term, index)| {
        Record::Entry(Entry { position: Position::new(*term, index), payload: Payload::Noop })
    });
    Ok([Record::Life { number: 1 }, hard_state].into_iter().chain(entries).collect())
}

fn number(what: &str, word: &str) -> Result<u64, Misread> {
    word.parse().map_err(|_| Misread::wanted(what, word))
}

fn node(word: &str) -> Result<NodeId, Misread> {
    Ok(NodeId(number("node", word.trim_start_matches('n'))?))
}

fn nodes(words: &str) -> Result<BTreeSet<NodeId>, Misread> {
    words.split(',').map(node).collect()
}

/// `5@2`, as positions are printed.
fn position(word: &str) -> Result<Position, Misread> {
    let (index, term) = word.split_once('@').ok_or_else(|| Misread::wanted("position", word))?;
    Ok(Position::new(number("term", term)?, number("index", index)?))
}

fn configuration(words: &[&str]) -> Result<Configuration, Misread> {
    let mut options = Options::parse(words)?;
    let incoming = nodes(options.value("voters").unwrap_or_default())?;
    let learners = options.value("learners").map(nodes).transpose()?.unwrap_or_default();
    options.all_asked()?;
    Ok(Configuration { incoming, learners, outgoing: BTreeSet::new() })
}

fn print(command: &[u8]) -> String {
    String::from_utf8_lossy(command).into_owned()
}

/// Nothing for none.
fn print_span(name: &str, span: Duration) -> String {
    if span.is_zero() { String::new() } else { format!(" {name}={}ms", span.as_millis()) }
}

fn print_ground(ground: Ground) -> &'static str {
    match ground {
        Ground::Round => "",
        Ground::Lease => " by lease",
    }
}

fn print_entry(entry: &Entry) -> String {
    let payload = match &entry.payload {
        Payload::Noop => "noop".to_owned(),
        Payload::Command(command) => print(command),
        Payload::Membership(configuration) => print_configuration(configuration),
    };
    format!("{} {payload}", entry.position)
}

fn print_entries(entries: &[Entry]) -> String {
    entries.iter().map(print_entry).collect::<Vec<_>>().join(", ")
}

fn print_configuration(configuration: &Configuration) -> String {
    let list = |name: &str, nodes: &BTreeSet<NodeId>| match nodes.is_empty() {
        true => String::new(),
        false => {
            let names: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
            format!(" {name}={}", names.join(","))
        }
    };
    let Configuration { incoming, outgoing, learners } = configuration;
    let text = list("voters", incoming) + &list("outgoing", outgoing) + &list("learners", learners);
    text.trim_start().to_owned()
}
