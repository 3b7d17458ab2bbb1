//! Servers of the time on loopback: one that is honest, one that lies, one that says nothing.

use super::server::{Asked, NoAnswer, exchange};
use super::*;
use quorate_core::WallTime;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::net::UdpSocket;

/// How long anything that must happen may take, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
const HOUR: i64 = 3_600_000_000_000;

/// How a server of these tests behaves.
#[derive(Clone, Copy)]
enum Manner {
    /// Its clock is that far ahead of the host's. Unit: nanoseconds.
    Ahead(i64),
    /// It takes questions, and never answers.
    Mute,
    /// It says so instead of a time.
    Kisses([u8; 4]),
    /// It does not know the time.
    Alarmed,
    /// It first sends what somebody would who cannot see the question; then an honest answer.
    Impostors,
}

/// A server, and how often it was asked.
struct Server {
    address: SocketAddr,
    questions: Arc<AtomicU64>,
}

impl Server {
    async fn start(manner: Manner) -> Server {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = socket.local_addr().expect("bound");
        let questions = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&questions);
        tokio::spawn(async move {
            let mut packet = [0; 128];
            while let Ok((bytes, client)) = socket.recv_from(&mut packet).await {
                count.fetch_add(1, Ordering::Relaxed);
                assert_eq!((bytes, packet[0]), (ntp::PACKET_BYTES, 0b00_100_011));
                for answer in answers(manner, &packet[40..48]) {
                    socket.send_to(&answer, client).await.expect("loopback");
                }
            }
        });
        Server { address, questions }
    }

    fn source(&self) -> TimeSource {
        format!("ntp://{}", self.address).parse().expect("an address")
    }

    fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }
}

fn answers(manner: Manner, nonce: &[u8]) -> Vec<Vec<u8>> {
    let answer = |first: u8, stratum: u8, code: &[u8; 4], nonce: &[u8], ahead: i64| {
        let mut packet = [0; ntp::PACKET_BYTES];
        (packet[0], packet[1], packet[3]) = (first, stratum, -20_i8 as u8);
        packet[12..16].copy_from_slice(code);
        packet[24..32].copy_from_slice(nonce);
        let wall = WallTime::from_nanos(Readings::take().wall.as_nanos() + ahead);
        packet[32..40].copy_from_slice(&ntp::stamp(wall).to_be_bytes());
        packet[40..48].copy_from_slice(&ntp::stamp(wall).to_be_bytes());
        packet.to_vec()
    };
    let good = 0b00_100_100;
    let honest = answer(good, 2, b"LOCL", nonce, 0);
    match manner {
        Manner::Ahead(ahead) => vec![answer(good, 2, b"LOCL", nonce, ahead)],
        Manner::Mute => vec![],
        Manner::Kisses(code) => vec![answer(good, 0, &code, nonce, 0)],
        Manner::Alarmed => vec![answer(good | 3 << 6, 2, b"LOCL", nonce, 0)],
        Manner::Impostors => vec![
            answer(good, 2, b"LOCL", &[0; 8], HOUR),
            answer(good, 0, b"DENY", &[7; 8], 0),
            vec![1, 2, 3],
            honest,
        ],
    }
}

async fn asked(manner: Manner) -> (Result<Exchange, NoAnswer>, u64) {
    let server = Server::start(manner).await;
    let mut strangers = 0;
    (exchange(server.address, &mut strangers).await, strangers)
}

/// A member alone that asks these servers.
fn timekeeper(sources: Vec<TimeSource>) -> Arc<Timekeeper> {
    let config = Config { time_sources: sources, ..Config::default() };
    config.validate().expect("a good configuration");
    let keeper = Arc::new(keeper_of(&config));
    keeper.start(BTreeMap::new(), Arc::default());
    keeper
}

/// The report in which this holds.
async fn until(keeper: &Timekeeper, holds: impl Fn(&TimeReport) -> bool) -> TimeReport {
    let deadline = Instant::now() + SOON;
    loop {
        let report = keeper.report();
        if holds(&report) {
            return report;
        }
        assert!(Instant::now() < deadline, "not so in time: {report:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn verdicts(report: &TimeReport) -> Vec<&str> {
    report.sources.iter().map(|source| source.verdict.as_str()).collect()
}

fn keeper_of(config: &Config) -> Timekeeper {
    let members = crate::genesis::Genesis::of(config).members;
    Timekeeper::new(config, config.member_id(), &members)
}

#[tokio::test]
async fn an_honest_server_says_what_the_clock_here_says() {
    let (told, strangers) = asked(Manner::Ahead(0)).await;
    let told = told.expect("an answer");
    let now = Readings::take();
    let sample = told.sample(DriftBound::default());
    let interval =
        sample.expect("possible").interval(now.at.since(told.arrived), Default::default());
    assert!(interval.contains(now.wall), "{interval:?} and {now:?}");
    assert_eq!(strangers, 0);
}

#[tokio::test]
async fn who_does_not_see_the_question_cannot_answer_it() {
    let (told, strangers) = asked(Manner::Impostors).await;
    let off = told.expect("the honest answer").answered.offset_from(Readings::take().wall);
    assert!(off.magnitude() < Duration::from_secs(60), "an impostor was believed: {off}");
    assert_eq!(strangers, 3);
}

#[tokio::test]
async fn silence_alarms_and_closed_ports_are_told_apart() {
    assert!(matches!(asked(Manner::Mute).await.0, Err(NoAnswer::Silence)));
    let alarmed = asked(Manner::Alarmed).await.0;
    let why = ntp::Unusable::Unsynchronised { leap: 3, stratum: 2 };
    assert!(matches!(alarmed, Err(NoAnswer::Unusable(told)) if told == why), "{alarmed:?}");
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = closed.local_addr().expect("bound");
    drop(closed);
    assert!(matches!(exchange(address, &mut 0).await, Err(NoAnswer::Io(_))));
}

#[tokio::test]
async fn one_liar_among_three_is_outvoted_and_named_and_a_mute_one_too() {
    let honest = [Server::start(Manner::Ahead(0)).await, Server::start(Manner::Ahead(0)).await];
    let liar = Server::start(Manner::Ahead(HOUR)).await;
    let mute = Server::start(Manner::Mute).await;
    let sources = vec![honest[0].source(), liar.source(), honest[1].source(), mute.source()];
    let keeper = timekeeper(sources);
    let wanted = ["shown", "counts", "outvoted", "counts", "unreachable"];
    let report = until(&keeper, |r| r.state == "synced" && verdicts(r) == wanted).await;
    assert_eq!(report.sources[2].source, liar.source().to_string());
    let ahead = report.sources[2].offset_seconds.expect("heard");
    assert!((ahead - 3_600.0).abs() < 1.0, "{ahead}");
    let (offset, error) = (report.offset_seconds.expect("known"), report.error.expect("known"));
    assert!(offset.abs() <= error.total_seconds, "{report:#?}");
    let parts = error.delay_seconds + error.drift_seconds + error.dispersion_seconds;
    assert!((parts - error.total_seconds).abs() < 1e-9, "{error:?}");
    let error = keeper.bounds().error;
    let small = |error: Duration| error < Duration::from_secs(1);
    assert!(matches!(error, ClockError::Within(error) if small(error)), "{error:?}");
}

#[tokio::test]
async fn who_refuses_to_be_asked_is_not_asked_again() {
    for (code, word) in [(b"DENY", "DENY"), (b"RSTR", "RSTR")] {
        let server = Server::start(Manner::Kisses(*code)).await;
        let keeper = timekeeper(vec![server.source()]);
        let report = until(&keeper, |report| verdicts(report)[1] == "refused").await;
        let why = report.sources[1].why.clone().unwrap_or_default();
        assert!(why.contains(word) && why.contains("leave this --time-source out"), "{why}");
        assert_eq!(report.state, "unsynchronised");
        keeper.disrupted.notify_waiters();
        sleep(Duration::from_millis(200)).await;
        assert_eq!(server.questions(), 1, "asked after {word}");
    }
}

#[tokio::test]
async fn clocks_that_are_years_off_are_contradicted_and_nobody_falls_over() {
    const YEAR: i64 = 8_766 * HOUR;
    for years in [-50, 60] {
        let far = Server::start(Manner::Ahead(years * YEAR)).await;
        let near = Server::start(Manner::Ahead(0)).await;
        let keeper = timekeeper(vec![far.source(), near.source()]);
        let heard = |report: &TimeReport| verdicts(report) == ["shown", "disputed", "disputed"];
        let report = until(&keeper, heard).await;
        assert_eq!(report.state, "unsynchronised", "one of two may not decide");
        assert_eq!((report.error, keeper.bounds().error), (None, ClockError::NoneBelieved));
        let offset = report.sources[1].offset_seconds.expect("heard");
        assert!((offset / (365.25 * 86_400.0) - years as f64).abs() < 0.01, "{offset}");
    }
}

#[tokio::test]
async fn a_member_that_is_to_ask_nobody_answers_nobody() {
    let config = Config { time_poll: Duration::ZERO, ..Config::default() };
    let keeper = Arc::new(keeper_of(&config));
    keeper.start(BTreeMap::new(), Arc::default());
    keeper.heard(NodeId(7), Message::Ask { ticket: 1 });
    let report = keeper.report();
    assert_eq!((report.state.as_str(), verdicts(&report)), (OFF, vec!["not heard"]));
}

#[test]
fn a_report_is_read_as_it_was_written() {
    let report = keeper_of(&Config::default()).report();
    let json = serde_json::to_string(&report).expect("numbers and text");
    let read: TimeReport = serde_json::from_str(&json).expect("a report");
    assert_eq!(read, report);
    assert_eq!((report.name.as_str(), report.drift_bound_ppm), ("default", 200.0));
}

#[test]
fn a_server_that_changes_its_mind_is_told_once_per_change() {
    let config =
        Config { time_sources: vec!["ntp://a".parse().expect("a source")], ..Config::default() };
    let keeper = keeper_of(&config);
    let gone = || Asked::Unreachable { why: "gone".to_owned() };
    for strangers in [2, 3] {
        keeper.not_answered(0, gone(), strangers);
    }
    let log = keeper.lock().servers[0].clone();
    assert_eq!((log.asked, log.strangers), (gone(), 5));
    assert_eq!(keeper.report().sources[1].refused, 5);
}
