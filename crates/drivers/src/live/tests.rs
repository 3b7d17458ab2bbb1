//! The live driver against a slow and a failing log.

use super::{Host, Inbox, InboxLimits, Live, Log, LogError, LogThread, Stopped};
use bytes::Bytes;
use quorate_core::{
    BadFrame, Context, Frame, Index, NodeId, Persist, Position, Protocol, SystemModel,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ME: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const TICK: Duration = Duration::from_millis(5);

/// How long anything that must happen may take, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(20);

/// As many ticks as no loop shows that waits for something else.
const MANY_TICKS: usize = 20;

/// Writes each request, answers once it is durable, and ticks.
struct Clerk;

#[derive(Clone, Debug, PartialEq)]
enum Said {
    Noted(u8),
    Tick,
}

#[derive(Debug)]
struct Note(u8);

impl Persist for Note {
    fn to_frame(&self) -> Frame {
        let payload = Bytes::copy_from_slice(&[self.0]);
        Frame { kind: 1, position: Position::ZERO, payload }
    }

    fn from_frame(frame: Frame) -> Result<Self, BadFrame> {
        frame.payload.first().map(|byte| Note(*byte)).ok_or(BadFrame { reason: "empty" })
    }
}

impl Protocol for Clerk {
    type Config = ();
    type Message = Said;
    type Timer = ();
    type Record = Note;
    type Request = u8;
    type Indication = u8;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore((): &(), _: &mut dyn Iterator<Item = Note>) -> Clerk {
        Clerk
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        cx.set_timer((), TICK..TICK);
    }

    fn on_request(&mut self, note: u8, cx: &mut Context<'_, Self>) {
        cx.write(Note(note));
        cx.send_once_durable(PEER, Said::Noted(note));
        cx.send_once_durable(cx.id, Said::Noted(note));
    }

    fn on_message(&mut self, from: NodeId, message: Said, cx: &mut Context<'_, Self>) {
        if let (ME, Said::Noted(note)) = (from, message) {
            cx.indicate(note);
        }
    }

    fn on_timer(&mut self, (): (), cx: &mut Context<'_, Self>) {
        cx.send(PEER, Said::Tick);
        cx.set_timer((), TICK..TICK);
    }
}

/// Everything that left the node, with when it did.
struct Street {
    left: Sender<(Instant, Said)>,
}

impl Host<Clerk> for Street {
    type Ask = u8;

    fn on_ask(&mut self, _: &Clerk, ask: u8, requests: &mut Vec<u8>) {
        requests.push(ask);
    }

    fn on_indication(&mut self, _: &Clerk, _: u8, _: &mut Vec<u8>) {}

    fn send(&mut self, _: NodeId, message: Said) {
        // The test may have seen enough and gone.
        let _ = self.left.send((Instant::now(), message));
    }

    fn flush(&mut self) {}

    fn on_turn_end(&mut self, _: &Clerk) {}
}

/// A log whose syncs last until the test lets them end, well or badly.
struct SlowLog {
    /// One sync may end per message; all may once the sender is gone.
    gate: Receiver<()>,
    outcome: Result<(), LogError>,
    synced: Arc<Mutex<Vec<Instant>>>,
}

impl Log for SlowLog {
    fn append(&mut self, _: &Frame) {}

    fn sync(&mut self) -> Result<(), LogError> {
        let _ = self.gate.recv();
        self.synced.lock().expect("no panic holds it").push(Instant::now());
        self.outcome.clone()
    }

    fn idle(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn release(&mut self, _: Index) -> Result<(), LogError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }
}

struct Running {
    inbox: Arc<Inbox<Said, u8>>,
    gate: Sender<()>,
    left: Receiver<(Instant, Said)>,
    synced: Arc<Mutex<Vec<Instant>>>,
    ended: std::thread::JoinHandle<Stopped>,
    _log: LogThread,
}

fn run(outcome: Result<(), LogError>) -> Running {
    let inbox = Arc::new(Inbox::new(InboxLimits::default()));
    let synced = Arc::default();
    let (gate, passages) = channel();
    let log = SlowLog { gate: passages, outcome, synced: Arc::clone(&synced) };
    let log = LogThread::start(log, Arc::clone(&inbox)).expect("a thread");
    let (sender, left) = channel();
    let host = Street { left: sender };
    let live = Live::new(ME, Clerk, host, Arc::clone(&inbox), log.handle(), 7);
    let ended = std::thread::spawn(move || live.run());
    Running { inbox, gate, left, synced, ended, _log: log }
}

/// Looks again until it holds.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(TICK);
    }
}

/// Waits for many ticks, during which nothing else may leave.
fn assert_ticks_only(left: &Receiver<(Instant, Said)>) {
    for _ in 0..MANY_TICKS {
        let (_, said) = left.recv_timeout(SOON).expect("timers wait for the disk");
        assert_eq!(said, Said::Tick, "acknowledged without being on disk");
    }
}

/// The next notes that leave, and when the last of them did.
fn notes(left: &Receiver<(Instant, Said)>, count: usize) -> (Vec<u8>, Instant) {
    let mut noted = Vec::new();
    loop {
        let (at, said) = left.recv_timeout(SOON).expect("the node runs");
        if let Said::Noted(note) = said {
            noted.push(note);
        }
        if noted.len() == count {
            return (noted, at);
        }
    }
}

#[test]
fn timers_and_free_messages_never_wait_for_the_disk() {
    let node = run(Ok(()));
    node.inbox.ask(9).expect("room");
    assert_ticks_only(&node.left);
    drop(node.gate);
    let (noted, noted_at) = notes(&node.left, 1);
    assert_eq!(noted, [9]);
    let synced_at = node.synced.lock().expect("no panic holds it")[0];
    assert!(noted_at >= synced_at, "an answer left before its record was durable");
    node.inbox.stop();
    assert_eq!(node.ended.join().expect("no panic"), Stopped::Asked);
}

#[test]
fn a_failed_sync_stops_the_node_and_acknowledges_nothing() {
    let failure = LogError { why: "the disk is on fire".to_owned() };
    let node = run(Err(failure));
    node.inbox.ask(9).expect("room");
    drop(node.gate);
    let stopped = node.ended.join().expect("no panic");
    assert_eq!(stopped, Stopped::LogFailed { why: "the disk is on fire".to_owned() });
    let acknowledged = node.left.iter().any(|(_, said)| said != Said::Tick);
    assert!(!acknowledged, "a record that may be lost was acknowledged");
}

/// A log that has no space until it is told so, and counts what was released meanwhile.
struct FullLog {
    space: Arc<AtomicBool>,
    released: Arc<AtomicBool>,
}

impl Log for FullLog {
    fn append(&mut self, _: &Frame) {}

    fn sync(&mut self) -> Result<(), LogError> {
        match self.space.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(LogError { why: "no space left".to_owned() }),
        }
    }

    fn wants_space(&self) -> bool {
        true
    }

    fn idle(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn release(&mut self, _: Index) -> Result<(), LogError> {
        self.released.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }
}

#[test]
fn a_log_without_space_waits_and_acknowledges_nothing_before_it_has_some() {
    let inbox = Arc::new(Inbox::new(InboxLimits::default()));
    let (space, released) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let log = FullLog { space: Arc::clone(&space), released: Arc::clone(&released) };
    let log = LogThread::start(log, Arc::clone(&inbox)).expect("a thread");
    let (sender, left) = channel();
    let host = Street { left: sender };
    let live = Live::new(ME, Clerk, host, Arc::clone(&inbox), log.handle(), 7);
    let ended = std::thread::spawn(move || live.run());
    inbox.ask(9).expect("room");
    assert_ticks_only(&left);
    eventually("nobody is told", || log.handle().stalled().as_deref() == Some("no space left"));
    log.handle().release(Index(1));
    eventually("what was released is not given back", || released.load(Ordering::SeqCst));
    space.store(true, Ordering::SeqCst);
    assert_eq!(notes(&left, 1).0, [9]);
    assert_eq!(log.handle().stalled(), None);
    inbox.stop();
    assert_eq!(ended.join().expect("no panic"), Stopped::Asked);
}

#[test]
fn a_log_without_space_can_be_stopped() {
    let inbox = Arc::new(Inbox::<Said, u8>::new(InboxLimits::default()));
    let log = FullLog { space: Arc::default(), released: Arc::default() };
    let log = LogThread::start(log, Arc::clone(&inbox)).expect("a thread");
    let frame = Frame { kind: 1, position: Position::ZERO, payload: Bytes::new() };
    log.handle().write(&mut vec![frame], 1);
    let (tell, dropped) = channel();
    std::thread::spawn(move || {
        drop(log);
        tell.send(())
    });
    dropped.recv_timeout(SOON).expect("it waits for space for ever");
}

/// A log with a mistake in it.
struct BrokenLog;

impl Log for BrokenLog {
    fn append(&mut self, _: &Frame) {}

    fn sync(&mut self) -> Result<(), LogError> {
        panic!("a broken invariant")
    }

    fn idle(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn release(&mut self, _: Index) -> Result<(), LogError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }
}

#[test]
fn a_log_thread_that_panics_stops_the_node() {
    let inbox = Arc::new(Inbox::new(InboxLimits::default()));
    let log = LogThread::start(BrokenLog, Arc::clone(&inbox)).expect("a thread");
    let host = Street { left: channel().0 };
    let live = Live::new(ME, Clerk, host, Arc::clone(&inbox), log.handle(), 7);
    let (tell, ended) = channel();
    std::thread::spawn(move || tell.send(live.run()));
    inbox.ask(9).expect("room");
    let stopped = ended.recv_timeout(SOON).expect("the loop ends");
    assert!(matches!(stopped, Stopped::LogFailed { .. }), "{stopped:?}");
}

#[test]
fn what_arrives_during_a_sync_shares_the_next_one() {
    let node = run(Ok(()));
    for note in 0..100 {
        node.inbox.ask(note).expect("room");
    }
    // The loop has taken all of them, and at most the first few are being synced.
    assert_ticks_only(&node.left);
    drop(node.gate);
    let (noted, _) = notes(&node.left, 100);
    assert_eq!(noted, (0..100).collect::<Vec<_>>(), "answers keep their order");
    let syncs = node.synced.lock().expect("no panic holds it").len();
    assert!(syncs <= 2, "{syncs} syncs for 100 records: they are not grouped");
}
