//! Keeps the members of a local cluster alive until it is told to stop.
//!
//! ```text
//! every 50 ms   look after each process (process.rs), and when one has ended at once;
//!               tell the others of it (parent.rs)
//! every 500 ms  ask each member how it is (leadership.rs), all at once
//! a signal      stop the members in order, then by force
//! ```

use crate::client::{self, Endpoint};
use crate::parent;
use crate::up::directory::Directory;
use crate::up::error::UpError;
use crate::up::leadership::{Leadership, Said, all_serve};
use crate::up::plan::Member;
use crate::up::process::{News, Process, Program, last_line};
use crate::up::report::Reporter;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tonic::transport::Channel;

const TEND_EVERY: Duration = Duration::from_millis(50);
const ASK_EVERY: Duration = Duration::from_millis(500);
const ANSWER_WITHIN: Duration = Duration::from_millis(400);

/// The first start must have led to a leader by then.
const SERVE_WITHIN: Duration = Duration::from_secs(60);

/// How long the members may take to stop in order.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Some senders of signals reach us twice (once directly, once as part of a group), so only a
/// signal that comes later than this asks for haste.
const SAME_SIGNAL_WITHIN: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// Every member stopped in order.
    Orderly,
    /// At least one had to be killed.
    Forced,
}

/// Runs the cluster in `directory` until a signal comes.
///
/// Errors: it never came to serve; the members have been stopped then.
pub(super) async fn supervise(
    directory: &Directory,
    program: &Program,
    reporter: &Reporter,
) -> Result<Ending, UpError> {
    let mut signals = Signals::listen()?;
    let mut processes = Vec::new();
    for member in directory.plan.members() {
        // Members that did start are killed by hand: dropping a `Child` leaves it alone.
        match Process::start(member, program, directory) {
            Ok(process) => processes.push(process),
            Err(error) => {
                processes.iter_mut().for_each(Process::kill);
                return Err(error);
            }
        }
    }
    reporter.starting(directory);
    let outcome = watch(&mut processes, directory, program, reporter, &mut signals).await;
    reporter.stopping(outcome.as_ref().map_or("failed", |why| why));
    let ending = stop(&mut processes, reporter, &mut signals).await;
    outcome?;
    reporter.stopped_all();
    Ok(ending)
}

/// The signals that end us.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

fn listen(kind: SignalKind) -> Result<Signal, UpError> {
    signal(kind).map_err(|error| UpError::System { what: "listen for signals", error })
}

impl Signals {
    fn listen() -> Result<Signals, UpError> {
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
            _ = self.hang_up.recv() => "terminal closed",
        }
    }
}

/// Looks after the members; returns which signal came.
async fn watch(
    processes: &mut [Process],
    directory: &Directory,
    program: &Program,
    reporter: &Reporter,
    signals: &mut Signals,
) -> Result<&'static str, UpError> {
    let members = directory.plan.members();
    // One round may wait to be read; the asker waits meanwhile.
    let (sender, mut rounds) = mpsc::channel(1);
    let asker = tokio::spawn(ask_for_ever(endpoints(directory)?, sender));
    let mut progress = Progress::new(members);
    let mut ends = listen(SignalKind::child())?;
    let mut tend = interval(TEND_EVERY);
    tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            why = signals.next() => break Ok(why),
            Some(answers) = rounds.recv() => {
                progress.round(&answers, directory, reporter);
                continue;
            }
            _ = ends.recv() => {}
            _ = tend.tick() => {}
        }
        let tended = progress.tend_all(processes, program, directory, reporter);
        if let Err(error) = tended.and_then(|()| progress.in_time(directory)) {
            break Err(error);
        }
    };
    asker.abort();
    outcome
}

/// How far the cluster has come.
struct Progress {
    members: Vec<Member>,
    started: Instant,
    answered: Vec<bool>,
    ready: bool,
    leadership: Leadership,
}

impl Progress {
    fn new(members: Vec<Member>) -> Progress {
        let answered = vec![false; members.len()];
        let leadership = Leadership::default();
        Progress { members, started: Instant::now(), answered, ready: false, leadership }
    }

    fn round(&mut self, answers: &[Option<Said>], directory: &Directory, reporter: &Reporter) {
        for (i, answer) in answers.iter().enumerate() {
            if answer.is_some() && !std::mem::replace(&mut self.answered[i], true) {
                reporter.serves(&self.members[i].name);
            }
        }
        if !self.ready && all_serve(answers) {
            self.ready = true;
            reporter.ready(directory, &self.members, self.started.elapsed());
        }
        if let Some(change) = self.leadership.observe(answers) {
            reporter.leader(change);
        }
    }

    fn tend_all(
        &self,
        processes: &mut [Process],
        program: &Program,
        directory: &Directory,
        reporter: &Reporter,
    ) -> Result<(), UpError> {
        for at in 0..processes.len() {
            let Some(news) = processes[at].tend(program, directory) else { continue };
            if matches!((&news, program), (News::Stopped { .. }, Program::Ourselves(_))) {
                let line = parent::notice_line(&processes[at].member.name);
                processes.iter_mut().for_each(|other| other.notify(&line));
            }
            self.tell(&processes[at].member.name, news, directory, reporter)?;
        }
        Ok(())
    }

    /// Errors: a member keeps stopping although the cluster never served, so waiting is in vain.
    fn tell(
        &self,
        name: &str,
        news: News,
        directory: &Directory,
        reporter: &Reporter,
    ) -> Result<(), UpError> {
        let log = directory.log_path(name);
        let begins = match news {
            News::Stopped { how, again_in, crash_loop_begins } => {
                reporter.stopped(name, &how, again_in);
                crash_loop_begins
            }
            News::SpawnFailed { error, crash_loop_begins } => {
                reporter.spawn_failed(name, &error);
                crash_loop_begins
            }
        };
        if begins {
            reporter.crash_loop(name, &log);
            if !self.ready {
                let last_line = last_line(&log);
                return Err(UpError::NeverServed { member: name.to_owned(), log, last_line });
            }
        }
        Ok(())
    }

    fn in_time(&self, directory: &Directory) -> Result<(), UpError> {
        if self.ready || self.started.elapsed() < SERVE_WITHIN {
            return Ok(());
        }
        let log = directory.log_path(&self.members[0].name);
        Err(UpError::NoLeader { seconds: SERVE_WITHIN.as_secs(), log })
    }
}

/// Where the members are asked, and how.
fn endpoints(directory: &Directory) -> Result<Vec<Endpoint>, UpError> {
    let tls = directory.security().map(|security| security.client()).transpose()?;
    let endpoint = |member: &Member| {
        let url = format!("{}://{}", directory.plan.transport.scheme(), member.endpoint());
        Endpoint::of(url.parse().expect("made of an address and a port"), tls.clone())
    };
    Ok(directory.plan.members().iter().map(endpoint).collect())
}

/// Sends rounds of answers until nobody listens any more.
async fn ask_for_ever(endpoints: Vec<Endpoint>, rounds: mpsc::Sender<Vec<Option<Said>>>) {
    let channels: Vec<Channel> = endpoints.iter().map(client::channel).collect();
    let mut pace = interval(ASK_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let asked: Vec<_> =
            channels.iter().map(|channel| tokio::spawn(ask(channel.clone()))).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer.await.ok().flatten());
        }
        if rounds.send(answers).await.is_err() {
            return;
        }
    }
}

async fn ask(channel: Channel) -> Option<Said> {
    let status = client::status(&channel, ANSWER_WITHIN).await.ok()?;
    let header = status.header.as_ref()?;
    Some(Said { id: header.member_id, leader: status.leader, term: status.raft_term })
}

/// Stops every member: in order, and after [`STOP_WITHIN`] or a second signal by force.
async fn stop(processes: &mut [Process], reporter: &Reporter, signals: &mut Signals) -> Ending {
    processes.iter().for_each(Process::terminate);
    let started = Instant::now();
    while started.elapsed() < STOP_WITHIN && running(processes) > 0 {
        tokio::select! {
            _ = signals.next() => if started.elapsed() > SAME_SIGNAL_WITHIN { break },
            () = sleep(TEND_EVERY) => {}
        }
    }
    let mut ending = Ending::Orderly;
    for process in processes {
        if !process.has_stopped() {
            reporter.killed(&process.member.name, started.elapsed());
            process.kill();
            ending = Ending::Forced;
        }
    }
    ending
}

fn running(processes: &mut [Process]) -> usize {
    processes.iter_mut().map(|process| usize::from(!process.has_stopped())).sum()
}
