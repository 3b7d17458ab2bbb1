//! The words of the detectors' transcripts, the same for all of them.
//!
//! ```text
//! cluster nodes=3 [mutant=timeout-never-grows]
//! request n1 say n2 7            traffic as heartbeat only: the layer above has something to say
//! ```

use quorate_core::{Context, NodeId, Protocol, SystemModel};
use quorate_drivers::scenario::{Misread, Options, Seat, Transcript};
use quorate_protocols::detectors::Mutant;
use quorate_protocols::detectors::chen::{self, Chen};
use quorate_protocols::detectors::heartbeat::{self, Growing, Heartbeat, Heartbeats, Timeouts};
use quorate_protocols::detectors::jacobson::{self, Pings, PingsConfig};
use quorate_protocols::detectors::perfect::{self, Perfect};
use quorate_protocols::detectors::phi::{self, Phi};
use quorate_protocols::detectors::quorum_ping::{self, Action, Mode, QuorumPing};
use quorate_protocols::detectors::swim::{self, Swim};
use quorate_protocols::detectors::traffic::{self, Say, Traffic};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A detector that has a story.
pub(super) trait Told: Protocol<Record: Clone, Config: Clone> {
    fn config(members: &[NodeId], options: &mut Options) -> Result<Self::Config, Misread>;
    fn plant(&mut self, mutant: Mutant);
    fn state(&self) -> String;
    fn message(message: &Self::Message) -> String;

    fn request(words: &[&str]) -> Result<Self::Request, Misread> {
        Err(Misread::wanted("request", &words.join(" ")))
    }
}

/// A detector with a known mistake in it, if there is to be one.
pub(super) struct Flawed<P>(P);

impl<P: Told> Flawed<P> {
    /// Runs the detector within; what it tells is passed on after its other effects.
    fn inner(&mut self, cx: &mut Context<'_, Self>, run: impl FnOnce(&mut P, &mut Context<'_, P>)) {
        let heard = cx.child(|cx| run(&mut self.0, cx));
        heard.into_iter().for_each(|indication| cx.indicate(indication));
    }
}

impl<P: Told> Protocol for Flawed<P> {
    type Config = (P::Config, Option<Mutant>);
    type Message = P::Message;
    type Timer = P::Timer;
    type Record = P::Record;
    type Request = P::Request;
    type Indication = P::Indication;

    const MODEL: SystemModel = P::MODEL;

    fn restore(config: &Self::Config, records: &mut dyn Iterator<Item = P::Record>) -> Self {
        let mut node = P::restore(&config.0, records);
        config.1.into_iter().for_each(|mutant| node.plant(mutant));
        Flawed(node)
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.inner(cx, P::on_start);
    }

    fn on_request(&mut self, request: P::Request, cx: &mut Context<'_, Self>) {
        self.inner(cx, |node, cx| node.on_request(request, cx));
    }

    fn on_message(&mut self, from: NodeId, message: P::Message, cx: &mut Context<'_, Self>) {
        self.inner(cx, |node, cx| node.on_message(from, message, cx));
    }

    fn on_timer(&mut self, timer: P::Timer, cx: &mut Context<'_, Self>) {
        self.inner(cx, |node, cx| node.on_timer(timer, cx));
    }

    fn invariants(&self) {
        self.0.invariants();
    }
}

/// The transcripts of one detector.
pub(super) struct Story<P>(PhantomData<P>);

impl<P: Told> Transcript for Story<P> {
    type Node = Flawed<P>;

    fn seat(
        _node: NodeId,
        members: &[NodeId],
        options: &mut Options,
    ) -> Result<Seat<Flawed<P>>, Misread> {
        let find = |name: &str| Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
        let mutant = match options.value("mutant") {
            None => None,
            Some(name) => Some(find(name).ok_or_else(|| Misread::wanted("mutant", name))?),
        };
        Ok(Seat { config: (P::config(members, options)?, mutant), records: Vec::new() })
    }

    fn request(words: &[&str]) -> Result<P::Request, Misread> {
        P::request(words)
    }

    fn message(message: &P::Message) -> String {
        P::message(message)
    }

    fn record(record: &P::Record) -> String {
        plain(record)
    }

    fn indication(indication: &P::Indication) -> String {
        plain(indication)
    }

    fn state(node: &Flawed<P>) -> String {
        node.0.state()
    }
}

/// A value as `{:?}` has it, with the names of nodes as the driver prints them.
fn plain(value: &impl Debug) -> String {
    let mut text = format!("{value:?}");
    while let Some(begin) = text.find("NodeId(") {
        let end = begin + text[begin..].find(')').expect("it is closed");
        text = format!("{}n{}{}", &text[..begin], &text[begin + 7..end], &text[end + 1..]);
    }
    text
}

fn suspects(nodes: impl Iterator<Item = NodeId>) -> String {
    let names: Vec<String> = nodes.map(|node| node.to_string()).collect();
    if names.is_empty() {
        "suspects nobody".to_owned()
    } else {
        format!("suspects {}", names.join(" "))
    }
}

/// The heartbeats of a detector with that estimator.
macro_rules! told_by_heartbeats {
    ($estimator:ty, $config:expr) => {
        impl Told for Heartbeats<$estimator> {
            fn config(members: &[NodeId], _: &mut Options) -> Result<Self::Config, Misread> {
                let nodes = members.to_vec();
                Ok(heartbeat::Config { nodes, every: ms(100), estimator: $config })
            }

            fn plant(&mut self, mutant: Mutant) {
                Heartbeats::plant(self, mutant);
            }

            fn state(&self) -> String {
                suspects(self.suspects())
            }

            fn message(Heartbeat { life, number }: &Heartbeat) -> String {
                format!("Heartbeat {life}.{number}")
            }
        }
    };
}

told_by_heartbeats!(Growing, Timeouts { initial: ms(150), timeout_max: ms(2_000) });
told_by_heartbeats!(
    Chen,
    chen::Config { every: ms(100), margin: ms(30), window: 4, first: ms(300) }
);
told_by_heartbeats!(
    Phi,
    phi::Config {
        threshold: 3_000,
        window: 10,
        deviation_min: ms(10),
        interval_max: ms(300),
        first: ms(100),
    }
);

impl Told for Perfect {
    fn config(members: &[NodeId], _: &mut Options) -> Result<perfect::Config, Misread> {
        let nodes = members.to_vec();
        Ok(perfect::Config { nodes, delay_max: ms(10), step_max: ms(5), drift_max: 0 })
    }

    fn plant(&mut self, mutant: Mutant) {
        Perfect::plant(self, mutant);
    }

    fn state(&self) -> String {
        suspects(self.suspects())
    }

    fn message(message: &perfect::Message) -> String {
        match message {
            perfect::Message::Ping { round } => format!("Ping {round}"),
            perfect::Message::Pong { round } => format!("Pong {round}"),
        }
    }
}

impl Told for Pings {
    fn config(members: &[NodeId], _: &mut Options) -> Result<PingsConfig, Misread> {
        let round_trips = jacobson::Config {
            first: ms(200),
            timeout_min: ms(1),
            timeout_max: ms(1_000),
            factor: 400,
        };
        Ok(PingsConfig { nodes: members.to_vec(), every: ms(20), misses: 3, round_trips })
    }

    fn plant(&mut self, mutant: Mutant) {
        Pings::plant(self, mutant);
    }

    fn state(&self) -> String {
        let estimate = |id| self.round_trips(NodeId(id));
        let told =
            (1..=3).filter_map(|id| Some((id, estimate(id)?.mean()?, estimate(id)?.timeout())));
        let told: Vec<String> = told
            .map(|(id, mean, timeout)| format!("n{id}: mean {mean:?} timeout {timeout:?}"))
            .collect();
        format!("{} {}", suspects(self.suspects()), told.join(", "))
    }

    fn message(message: &jacobson::Message) -> String {
        match message {
            jacobson::Message::Ping { number, .. } => format!("Ping {number}"),
            jacobson::Message::Pong { number, .. } => format!("Pong {number}"),
        }
    }
}

impl Told for Traffic {
    fn config(members: &[NodeId], _: &mut Options) -> Result<traffic::Config, Misread> {
        let nodes = members.to_vec();
        Ok(traffic::Config { nodes, idle: ms(100), margin: ms(50), margin_max: ms(1_000) })
    }

    fn plant(&mut self, mutant: Mutant) {
        Traffic::plant(self, mutant);
    }

    fn state(&self) -> String {
        suspects(self.suspects())
    }

    fn message(message: &traffic::Message) -> String {
        match message {
            traffic::Message::Data(data) => format!("Data {data}"),
            traffic::Message::Heartbeat => "Heartbeat".to_owned(),
        }
    }

    fn request(words: &[&str]) -> Result<Say, Misread> {
        let number = |word: &str| {
            word.trim_start_matches('n').parse().map_err(|_| Misread::wanted("number", word))
        };
        match words {
            ["say", to, data] => Ok(Say { to: NodeId(number(to)?), data: number(data)? }),
            words => Err(Misread::wanted("request", &words.join(" "))),
        }
    }
}

impl Told for QuorumPing {
    fn config(members: &[NodeId], _: &mut Options) -> Result<quorum_ping::Config, Misread> {
        let nodes = members.iter().copied().collect();
        Ok(quorum_ping::Config { nodes, every: ms(100), action: Action::ReadOnly })
    }

    fn plant(&mut self, mutant: Mutant) {
        QuorumPing::plant(self, mutant);
    }

    fn state(&self) -> String {
        match self.mode() {
            Mode::Writes => "writes".to_owned(),
            Mode::ReadsOnly { since } => {
                format!("reads only, since {} ms", since.as_nanos() / 1_000_000)
            }
            Mode::Halted => "has halted".to_owned(),
        }
    }

    fn message(message: &quorum_ping::Message) -> String {
        match message {
            quorum_ping::Message::Ping { round } => format!("Ping {round}"),
            quorum_ping::Message::Pong { round } => format!("Pong {round}"),
        }
    }
}

impl Told for Swim {
    fn config(members: &[NodeId], _: &mut Options) -> Result<swim::Config, Misread> {
        Ok(swim::Config {
            nodes: members.to_vec(),
            every: ms(100),
            ping_timeout: ms(30),
            indirect: 1,
            suspicion: ms(100),
            health: swim::Health::Lifeguard,
        })
    }

    fn plant(&mut self, mutant: Mutant) {
        Swim::plant(self, mutant);
    }

    fn state(&self) -> String {
        let views = (1..=3).filter_map(|id| Some((id, self.view(NodeId(id))?)));
        let views: Vec<String> = views
            .map(|(id, view)| format!("n{id} {:?} {}", view.standing, view.incarnation))
            .collect();
        let (own, score) = (self.incarnation(), self.score().value());
        format!("incarnation {own}, health {score}; {}", views.join(", "))
    }

    fn message(message: &swim::Message) -> String {
        let news: Vec<String> = message
            .news
            .iter()
            .map(|it| format!(" {} {:?} {}", it.member, it.view.standing, it.view.incarnation))
            .collect();
        format!("{}{}", plain(&message.body), news.join(","))
    }
}
