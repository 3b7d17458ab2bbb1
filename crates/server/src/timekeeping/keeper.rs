//! What a member knows of the time: the synchronizer, and what surrounds it, without any socket.
//!
//! Whoever calls says what the clocks show, so that a test can let them show anything.
//!
//! **Whose word counts.** The clock of a host says nothing of its own error that could be read
//! here, so [`HOST_CLOCK_ERROR`] is assumed, which is what the standard takes for "knows nothing".
//!
//! * *Without servers* members have nothing but their clocks, and so those count: a member whose
//!   clock is far from that of the others is outvoted and named, and the error stays at what was
//!   assumed.
//! * *With servers* a clock that knows nothing must not outvote one that does. Clocks of members
//!   are compared and shown, and have no voice; so many servers may lie as can be outvoted by the
//!   others.

use super::host_clock::{Event, HostClock, Readings};
use super::rate::RateWatch;
use super::server::{POLL_MAX, ServerLog};
use super::{ClockBounds, ClockError, HOST_CLOCK_ERROR};
use quorate_core::{Context, Effect, NodeId, Protocol, Time};
use quorate_protocols::time::dispersion::DriftBound;
use quorate_protocols::time::exchange::Exchange;
use quorate_protocols::time::synchronizer::{
    Config, Indication, Message, Request, SourceId, State, Synchronizer, Timer,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Messages that are to leave, and for whom.
pub(super) type Outgoing = Vec<(NodeId, Message)>;

/// The synchronizer of a member, and what it was told.
#[derive(Debug)]
pub(super) struct Keeper {
    node: Synchronizer,
    me: NodeId,
    /// The latest instant that it was told of: time never goes back for it.
    now: Time,
    poll_at: Time,
    dice: u64,
    pub(super) clock: HostClock,
    /// By the number of the server.
    pub(super) servers: Vec<ServerLog>,
    /// Why an answer of a source was refused last.
    pub(super) refused: BTreeMap<SourceId, String>,
    /// How sources are called.
    pub(super) names: BTreeMap<SourceId, String>,
    pub(super) faulty_max: usize,
    drift: DriftBound,
    pub(super) rates: RateWatch,
}

/// The synchronizer's settings: see the essay of this module.
pub(super) fn settings(
    me: NodeId,
    peers: BTreeSet<NodeId>,
    servers: u16,
    poll: Duration,
) -> Config {
    let usual = Config { poll, fresh: 4 * poll, ..Config::new(me, peers, servers) };
    match servers {
        0 => usual,
        servers => Config {
            faulty_max: (usize::from(servers) - 1) / 2,
            fresh: 4 * POLL_MAX,
            error_max: Some(HOST_CLOCK_ERROR),
            ..usual
        },
    }
}

impl Keeper {
    /// One that knows nothing yet. `dice` shifts its questions to peers.
    pub(super) fn new(config: &Config, names: BTreeMap<SourceId, String>, dice: u64) -> Keeper {
        Keeper {
            node: Synchronizer::restore(config, &mut std::iter::empty()),
            me: config.id,
            now: Time::default(),
            poll_at: Time::default(),
            dice,
            clock: HostClock::default(),
            servers: vec![ServerLog::default(); usize::from(config.servers)],
            refused: BTreeMap::new(),
            names,
            faulty_max: config.faulty_max,
            drift: config.drift,
            rates: RateWatch::new(config.peers.len(), config.poll, config.drift),
        }
    }

    /// How far the monotonic clock may run off, as is assumed.
    pub(super) fn drift_bound(&self) -> DriftBound {
        self.drift
    }

    /// The first turn.
    pub(super) fn start(&mut self, readings: Readings) -> Outgoing {
        let mut outgoing = self.turn(readings.at, |node, cx| node.on_start(cx));
        outgoing.extend(self.look(readings).0);
        outgoing
    }

    /// Looks at the clocks of the host, and asks peers if it is time to.
    pub(super) fn look(&mut self, readings: Readings) -> (Outgoing, Option<Event>) {
        let Readings { at, wall, .. } = readings;
        let event = self.clock.look(readings);
        if let Some(Event::Suspended(_)) = event {
            self.rates.forget();
            self.turn(at, |node, cx| node.on_request(Request::Disrupted, cx));
        }
        let believed = self.clock.is_believed(at);
        let mut outgoing = self.turn(at, |node, cx| {
            node.on_request(Request::Host { at, wall }, cx);
            if believed {
                node.on_request(Request::Reading { at, wall, error: HOST_CLOCK_ERROR }, cx);
            }
        });
        if self.poll_at <= self.now {
            outgoing.extend(self.turn(at, |node, cx| node.on_timer(Timer::Poll, cx)));
        }
        (outgoing, event)
    }

    /// A peer asks or answers.
    pub(super) fn message(&mut self, from: NodeId, message: Message, now: Time) -> Outgoing {
        self.turn(now, |node, cx| node.on_message(from, message, cx))
    }

    /// A server has answered.
    pub(super) fn exchanged(&mut self, server: u16, exchange: Exchange, now: Time) {
        let request = Request::Exchanged { server, exchange };
        self.turn(now, |node, cx| node.on_request(request, cx));
    }

    /// When peers are asked next.
    pub(super) fn poll_at(&self) -> Time {
        self.poll_at
    }

    /// The synchronizer.
    pub(super) fn node(&self) -> &Synchronizer {
        &self.node
    }

    /// What others may rely on at `now`.
    pub(super) fn bounds(&self, now: Time) -> ClockBounds {
        let now = now.max(self.now);
        let error = match self.node.interval(now) {
            _ if self.servers.is_empty() => ClockError::NoServer,
            Some(interval) => ClockError::Within(interval.error()),
            None => ClockError::NoneBelieved,
        };
        ClockBounds { error, rate: self.rates.rate(now), drift_bound: self.drift }
    }

    /// How a source is called.
    pub(super) fn name(&self, source: SourceId) -> String {
        self.names.get(&source).cloned().unwrap_or_else(|| source.to_string())
    }

    fn turn(
        &mut self,
        now: Time,
        run: impl FnOnce(&mut Synchronizer, &mut Context<'_, Synchronizer>),
    ) -> Outgoing {
        self.now = self.now.max(now);
        let mut effects = Vec::new();
        let draw = self.roll(); // Of the tickets of this life.
        let mut choose = |options: usize| (draw % options as u64) as usize;
        let mut cx = Context::new(self.me, self.now, &mut choose, &mut effects);
        run(&mut self.node, &mut cx);
        self.node.on_flush(&mut cx);
        self.node.invariants();
        let mut outgoing = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { to, message, .. } => outgoing.push((to, message)),
                Effect::SetTimer { timer: Timer::Poll, within } => {
                    let width = within.end.saturating_sub(within.start).as_nanos() as u64;
                    let jitter = Duration::from_nanos(self.roll() % width.max(1));
                    self.poll_at = self.now.after(within.start + jitter);
                }
                Effect::CancelTimer { .. } => {}
                Effect::Write { record } => match record {},
                Effect::Indicate { indication } => self.tell(indication),
            }
        }
        outgoing
    }

    /// SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014).
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn tell(&mut self, indication: Indication) {
        match indication {
            Indication::Measured { source: SourceId::Peer(peer), sample } => {
                self.rates.note(peer, &sample);
            }
            Indication::Measured { .. } => {}
            Indication::Refused { source, why } => {
                // A source that goes on like this would fill the log; the report has the last one.
                let name = self.name(source);
                tracing::debug!(source = name, %why, "refused what a source says of the time");
                self.refused.insert(source, why.to_string());
            }
            Indication::StateChanged { state: State::Unsynchronised } => {
                tracing::warn!("the time is no longer known: unsynchronised");
            }
            Indication::StateChanged { state } => tracing::info!(%state, "knowledge of the time"),
            Indication::Corrected { correction } => {
                tracing::info!(?correction, "the clock of this member was corrected");
            }
            Indication::Outvoted { source } => {
                let name = self.name(source);
                tracing::warn!(source = name, "outvoted: it contradicts the others about the time");
            }
            Indication::Readmitted { source } => {
                let name = self.name(source);
                tracing::info!(source = name, "agrees with the others about the time again");
            }
            Indication::Contradiction { heard, sharing } => tracing::error!(
                heard,
                sharing,
                "sources of the time contradict each other, and more are wrong than can be \
                 outvoted; compare them with 'quorate time status'"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timekeeping::ClockRate;
    use proptest::prelude::*;
    use quorate_core::WallTime;

    const SECOND: u64 = 1_000_000_000;
    /// Where the honest wall clocks of these tests begin.
    const EPOCH: i64 = 1_700_000_000 * SECOND as i64;
    const YEAR: i64 = 365 * 86_400 * SECOND as i64;

    fn readings(second: u64, ahead: i64) -> Readings {
        let at = Time::from_nanos(second * SECOND);
        let wall = (EPOCH + (second * SECOND) as i64).saturating_add(ahead);
        Readings { at, awake: at, wall: WallTime::from_nanos(wall) }
    }

    /// Members that hear each other at once, with wall clocks that far ahead, and with clocks that
    /// run faster by so much.
    struct Members {
        keepers: Vec<Keeper>,
        ahead: Vec<i64>,
        faster_ppm: Vec<u64>,
    }

    impl Members {
        fn new(count: u64, servers: u16) -> Members {
            let keeper = |me: u64| {
                let peers = (1..=count).filter(|id| *id != me).map(NodeId).collect();
                let config = settings(NodeId(me), peers, servers, Duration::from_secs(2));
                Keeper::new(&config, BTreeMap::new(), me)
            };
            let keepers = (1..=count).map(keeper).collect();
            let count = count as usize;
            Members { keepers, ahead: vec![0; count], faster_ppm: vec![0; count] }
        }

        fn readings(&self, member: usize, second: u64) -> Readings {
            let Readings { at, wall, .. } = readings(second, self.ahead[member]);
            let gained = Duration::from_micros(second * self.faster_ppm[member]);
            Readings { at: at.after(gained), awake: at.after(gained), wall: wall.later(gained) }
        }

        fn run(&mut self, seconds: std::ops::Range<u64>) {
            for second in seconds {
                for at in 0..self.keepers.len() {
                    let readings = self.readings(at, second);
                    let outgoing = match second {
                        0 => self.keepers[at].start(readings),
                        _ => self.keepers[at].look(readings).0,
                    };
                    self.carry(NodeId(at as u64 + 1), outgoing, second);
                }
            }
        }

        fn carry(&mut self, from: NodeId, outgoing: Outgoing, second: u64) {
            for (to, message) in outgoing {
                let member = to.0 as usize - 1;
                let now = self.readings(member, second).at;
                let answers = self.keepers[member].message(from, message, now);
                self.carry(to, answers, second);
            }
        }

        fn serve(&mut self, second: u64, server: u16, ahead: i64) {
            let Readings { at, wall, .. } = readings(second, ahead);
            for keeper in &mut self.keepers {
                let error = Duration::from_millis(1);
                let exchange =
                    Exchange { sent: at, received: wall, answered: wall, arrived: at, error };
                keeper.exchanged(server, exchange, at);
            }
        }

        fn states(&self) -> Vec<State> {
            self.keepers.iter().map(|keeper| keeper.node.state()).collect()
        }

        fn outvoted(&self, by: usize, second: u64) -> Vec<SourceId> {
            let all = self.keepers[by].node.sources(Time::from_nanos(second * SECOND));
            all.iter().filter(|source| source.is_outvoted).map(|source| source.source).collect()
        }
    }

    #[test]
    fn members_without_servers_agree_within_what_is_assumed_of_their_clocks() {
        let mut members = Members::new(3, 0);
        members.run(0..10);
        assert_eq!(members.states(), [State::Synced; 3]);
        let now = Time::from_nanos(10 * SECOND);
        let interval = members.keepers[0].node.interval(now).expect("their clocks count");
        assert!(interval.error() >= HOST_CLOCK_ERROR, "{interval:?}");
        let bounds = members.keepers[0].bounds(now);
        assert_eq!(bounds.error, ClockError::NoServer, "which is nothing that was measured");
        assert!(matches!(bounds.rate, ClockRate::Good(_)), "{bounds:?}");
    }

    #[test]
    fn a_member_whose_clock_runs_off_finds_itself_out_and_the_others_do_not_mind() {
        let mut members = Members::new(3, 0);
        members.faster_ppm[1] = 1_000;
        members.run(0..20);
        let rate = |keeper: &Keeper| keeper.bounds(Time::from_nanos(20 * SECOND)).rate;
        assert!(matches!(rate(&members.keepers[1]), ClockRate::Bad(_)));
        for right in [0, 2] {
            assert!(matches!(rate(&members.keepers[right]), ClockRate::Good(_)));
        }
    }

    #[test]
    fn a_member_whose_clock_jumps_by_years_is_outvoted_and_named_when_it_insists() {
        for years in [30, -30, 290, -290] {
            let mut members = Members::new(3, 0);
            members.run(0..10);
            members.ahead[1] = years * YEAR;
            members.run(10..40);
            assert_eq!(members.keepers[1].clock.steps, 1);
            assert_eq!(members.outvoted(0, 40), [], "it does not believe its clock, nor tell it");
            members.run(40..100);
            assert_eq!(members.states(), [State::Synced; 3]);
            assert_eq!(members.outvoted(0, 100), [SourceId::Peer(NodeId(2))]);
            assert_eq!(members.outvoted(1, 100), [SourceId::Own]);
            let interval = members.keepers[0].node.interval(Time::from_nanos(100 * SECOND));
            let error = interval.expect("two agree").error();
            assert!(error < 2 * HOST_CLOCK_ERROR, "{error:?}");
        }
    }

    #[test]
    fn servers_decide_where_there_are_some_and_one_of_three_may_lie() {
        let mut members = Members::new(3, 3);
        members.ahead[2] = 10 * SECOND as i64;
        for second in 0..20 {
            members.run(second..second + 1);
            let hour = 3_600 * SECOND as i64;
            [0, 0, hour].into_iter().zip(0..).for_each(|(ahead, server)| {
                members.serve(second, server, ahead);
            });
        }
        assert_eq!(members.states(), [State::Synced; 3]);
        for keeper in 0..3 {
            assert_eq!(members.outvoted(keeper, 20), [SourceId::Server(2)]);
            let ClockError::Within(error) =
                members.keepers[keeper].bounds(Time::from_nanos(20 * SECOND)).error
            else {
                panic!("two of three agree")
            };
            assert!(error < Duration::from_millis(2), "{error:?}");
        }
        let offset = members.keepers[2].node.host_offset().expect("known").as_nanos();
        assert!((offset - 10 * SECOND as i64).abs() < 2_000_000, "{offset}");
    }

    #[test]
    fn one_server_of_two_that_lies_is_a_contradiction_and_nothing_is_believed() {
        let mut members = Members::new(1, 2);
        members.run(0..1);
        members.serve(1, 0, 0);
        members.serve(1, 1, 3_600 * SECOND as i64);
        assert_eq!(members.states(), [State::Unsynchronised]);
        let bounds = members.keepers[0].bounds(Time::from_nanos(SECOND));
        assert_eq!(bounds.error, ClockError::NoneBelieved);
    }

    #[test]
    fn a_suspend_makes_a_member_forget_and_ask_anew() {
        let mut members = Members::new(3, 1);
        members.run(0..1);
        members.serve(0, 0, 0);
        members.run(1..8);
        assert_eq!(members.states(), [State::Synced; 3]);
        assert_eq!(members.keepers[0].rates.peers_heard(), 2);
        let hour = 3_600;
        let mut readings = readings(hour, 0);
        readings.awake = Time::from_nanos(9 * SECOND);
        let (_, event) = members.keepers[0].look(readings);
        assert!(matches!(event, Some(Event::Suspended(_))), "{event:?}");
        assert_eq!(members.keepers[0].rates.peers_heard(), 0, "rates are measured anew");
        assert_eq!(members.states()[0], State::Unsynchronised);
        members.serve(hour, 0, 0);
        assert_eq!(members.states()[0], State::Synced);
    }

    #[test]
    fn what_servers_said_is_worth_less_each_day_until_it_is_worth_nothing() {
        let mut members = Members::new(1, 1);
        members.run(0..1);
        members.serve(0, 0, 0);
        let later = |members: &mut Members, second: u64| {
            members.keepers[0].look(readings(second, 0));
            (
                members.states()[0],
                members.keepers[0].bounds(Time::from_nanos(second * SECOND)).error,
            )
        };
        let (state, error) = later(&mut members, 3_600);
        assert_eq!(state, State::Freewheel);
        let near = |error: Duration| error.as_millis().abs_diff(721) < 2;
        assert!(matches!(error, ClockError::Within(error) if near(error)), "{error:?}");
        let nothing = (State::Unsynchronised, ClockError::NoneBelieved);
        assert_eq!(later(&mut members, 86_400), nothing);
    }

    /// Any number that an i64 can be, and those at which sums leave their range.
    fn wild() -> impl Strategy<Value = i64> {
        prop_oneof![
            Just(i64::MIN),
            Just(i64::MAX),
            any::<i64>(),
            EPOCH - YEAR..EPOCH + YEAR,
            EPOCH..EPOCH + 1_000
        ]
    }

    #[derive(Clone, Debug)]
    enum Said {
        Clock(i64),
        Server { sent: u64, received: i64, answered: i64, error: u64 },
        Peer { received: i64, answered: i64, error: u64 },
    }

    fn said() -> impl Strategy<Value = Said> {
        let error = || prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 0..SECOND];
        prop_oneof![
            wild().prop_map(Said::Clock),
            (0..2 * SECOND, wild(), wild(), error()).prop_map(
                |(sent, received, answered, error)| Said::Server {
                    sent,
                    received,
                    answered,
                    error
                }
            ),
            (wild(), wild(), error()).prop_map(|(received, answered, error)| Said::Peer {
                received,
                answered,
                error
            }),
        ]
    }

    proptest! {
        #[test]
        fn nothing_that_clocks_peers_and_servers_can_say_is_a_reason_to_stop(
            all in proptest::collection::vec((said(), 0..100_000_u64), 1..40),
            servers in 0..3_u16,
        ) {
            let peers = BTreeSet::from([NodeId(2)]);
            let config = settings(NodeId(1), peers, servers, Duration::from_secs(2));
            let mut keeper = Keeper::new(&config, BTreeMap::new(), 1);
            let mut asked = keeper.start(readings(0, 0));
            let mut now = 0;
            for (said, passed) in all {
                now += passed;
                let at = Time::from_nanos(now * SECOND);
                match said {
                    Said::Clock(wall) => {
                        let wall = WallTime::from_nanos(wall);
                        asked.extend(keeper.look(Readings { at, awake: at, wall }).0);
                    }
                    Said::Server { sent, received, answered, error } => keeper.exchanged(
                        0,
                        Exchange {
                            sent: Time::from_nanos((now * SECOND).saturating_sub(sent)),
                            received: WallTime::from_nanos(received),
                            answered: WallTime::from_nanos(answered),
                            arrived: at,
                            error: Duration::from_nanos(error),
                        },
                        at,
                    ),
                    Said::Peer { received, answered, error } => {
                        let Some((from, Message::Ask { ticket })) = asked.pop() else { continue };
                        let answer = Message::Answer {
                            ticket,
                            received: WallTime::from_nanos(received),
                            answered: WallTime::from_nanos(answered),
                            error: Duration::from_nanos(error),
                        };
                        keeper.message(from, answer, at);
                    }
                }
                keeper.bounds(at);
                let report = crate::timekeeping::report::of(&keeper, readings(now, 0), false);
                prop_assert!(serde_json::to_string(&report).is_ok());
            }
        }
    }
}
