//! Traces to look at: a story that is told step by step, one whose texts attack the page that shows
//! them, and long ones that are drawn by lot.

#![allow(dead_code, reason = "each test file uses its own part")]

use quorate_drivers::simulate::Switch;
use quorate_drivers::simulate::trace::{Head, Kind, Step, TRACE_VERSION, Trace};

/// A trace that grows.
pub(crate) struct Story {
    trace: Trace,
    now: u64,
    numbers: u64,
    /// By message: from, to, text.
    messages: Vec<(usize, usize, String)>,
}

impl Story {
    /// Nothing has happened among `nodes` and `clients`.
    pub(crate) fn new(nodes: &[&str], clients: &[&str]) -> Story {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let head = Head {
            quorate_trace: TRACE_VERSION,
            version: "0.1.0".to_owned(),
            protocol: "service".to_owned(),
            model: "network=fair-loss node=crash-recovery timing=partial".to_owned(),
            seed: "7".to_owned(),
            nodes: names(nodes),
            clients: names(clients),
            mutant: None,
            buggify: Switch::On,
            property: None,
            awaited: Vec::new(),
            why: None,
            digest: "5ca1ab1e0ddba11f".to_owned(),
            replay: "quorate sim --seed 7".to_owned(),
        };
        let trace = Trace { head, steps: Vec::new() };
        Story { trace, now: 0, numbers: 0, messages: Vec::new() }
    }

    /// Lets time pass. Unit: microseconds.
    pub(crate) fn wait(&mut self, micros: u64) -> &mut Story {
        self.now += micros * 1_000;
        self
    }

    /// The last step, to be changed.
    pub(crate) fn last(&mut self) -> &mut Step {
        self.trace.steps.last_mut().expect("a step")
    }

    /// Says what the last step changed in the state of its node: `key=value`, parted by commas.
    pub(crate) fn state(&mut self, pairs: &str) -> &mut Story {
        for pair in pairs.split(", ") {
            let (key, value) = pair.split_once('=').expect("key=value");
            self.last().state.insert(key.to_owned(), value.to_owned());
        }
        self
    }

    fn step(&mut self, kind: Kind, text: &str) -> &mut Step {
        let mut step = Step::new(kind, text);
        step.step = self.trace.steps.len() as u64;
        step.at = self.now;
        self.trace.steps.push(step);
        self.last()
    }

    /// Something that happens at one node.
    pub(crate) fn at(&mut self, node: usize, kind: Kind, text: &str) -> &mut Story {
        self.step(kind, text).node = Some(node);
        self
    }

    /// A message leaves; its number pairs it with what becomes of it.
    pub(crate) fn send(&mut self, from: usize, to: usize, text: &str) -> u64 {
        let message = self.messages.len() as u64;
        self.messages.push((from, to, text.to_owned()));
        let step = self.step(Kind::Send, text);
        (step.node, step.peer, step.message) = (Some(from), Some(to), Some(message));
        message
    }

    fn end(&mut self, message: u64, kind: Kind) -> &mut Story {
        let (from, to, text) = self.messages[message as usize].clone();
        let step = self.step(kind, &text);
        (step.node, step.peer, step.message) = (Some(to), Some(from), Some(message));
        self
    }

    /// A message arrives, perhaps once more.
    pub(crate) fn receive(&mut self, message: u64) -> &mut Story {
        self.end(message, Kind::Receive)
    }

    /// A message is lost.
    pub(crate) fn lose(&mut self, message: u64) -> &mut Story {
        self.end(message, Kind::Lose)
    }

    /// An operation begins.
    pub(crate) fn invoke(&mut self, client: usize, node: usize, text: &str) -> u64 {
        self.numbers += 1;
        let operation = self.numbers;
        let step = self.step(Kind::Invoke, text);
        (step.client, step.node, step.operation) = (Some(client), Some(node), Some(operation));
        operation
    }

    /// An operation ends, with an answer of `node` or without one.
    pub(crate) fn answer(
        &mut self,
        client: usize,
        node: Option<usize>,
        operation: u64,
        text: &str,
    ) {
        let step = self.step(Kind::Return, text);
        (step.client, step.node, step.operation) = (Some(client), node, Some(operation));
    }

    /// A fault begins.
    pub(crate) fn fault(&mut self, nodes: &[usize], text: &str) -> u64 {
        self.numbers += 1;
        let fault = self.numbers;
        let step = self.step(Kind::Fault, text);
        (step.fault, step.nodes) = (Some(fault), nodes.to_vec());
        fault
    }

    /// A fault ends.
    pub(crate) fn heal(&mut self, fault: u64, text: &str) {
        self.step(Kind::Heal, text).fault = Some(fault);
    }

    /// A property is broken.
    pub(crate) fn violation(mut self, property: &str, why: &str) -> Trace {
        self.step(Kind::Violation, why);
        self.trace.head.property = Some(property.to_owned());
        self.trace.head.why = Some(why.to_owned());
        self.trace
    }

    /// The trace so far.
    pub(crate) fn trace(self) -> Trace {
        self.trace
    }
}

/// How a follower that answers before its disk has synced loses an acknowledged write: n2 forgets
/// it in a crash, is cut off from n1 together with n3 that never heard of it, and leads.
pub(crate) fn lost_write() -> Trace {
    let mut story = Story::new(&["n1", "n2", "n3"], &["c1", "c2"]);
    story.trace.head.mutant = Some("appended-before-synced".to_owned());
    story.trace.head.replay =
        "quorate sim --seed 7 --mutants appended-before-synced --shrink".to_owned();
    for node in 0..3 {
        story
            .at(node, Kind::Boot, "starts with 0 records")
            .state("role=follower, term=0, commit=0");
    }
    story.wait(400).at(2, Kind::Note, "its clock is ahead").state("clock error=+2.4 ms");
    first_election(&mut story);
    one_write(&mut story);
    second_leader(&mut story);
    stale_read(&mut story);
    story.violation(
        "linearizability",
        "c2 reads x at revision 1 after c1 was told that its write of x has revision 2: the \
         write was acknowledged, and no member of the quorum {n2, n3} has it",
    )
}

fn first_election(story: &mut Story) {
    story.wait(151_000).at(0, Kind::Timer, "election");
    story.state("role=candidate, term=1, vote=n1");
    let ask_n2 = story.send(0, 1, "RequestVote term 1 last 0");
    let ask_n3 = story.send(0, 2, "RequestVote term 1 last 0");
    story.wait(800).receive(ask_n2).state("term=1, vote=n1");
    let yes = story.send(1, 0, "Vote term 1 granted");
    story.wait(350).receive(ask_n3).state("term=1, vote=n1");
    let late = story.send(2, 0, "Vote term 1 granted");
    story.wait(500).receive(yes).state("role=leader");
    story.at(0, Kind::Tell, "leads term 1");
    story.wait(200).receive(late);
    story.wait(900).receive(late);
}

fn one_write(story: &mut Story) {
    story.wait(4_100);
    let put = story.invoke(0, 0, "put x = 1");
    story.state("waiting=c1");
    let log = "log=1:put x";
    let to_n2 = story.wait(20).send(0, 1, "Append term 1 previous 0 entries 1");
    story.state(log);
    let to_n3 = story.send(0, 2, "Append term 1 previous 0 entries 1");
    story.wait(300).at(2, Kind::Pause, "stands still");
    story.wait(200).at(0, Kind::Synced, "1 record").state("durable=1");
    story.wait(300).receive(to_n2).state(log);
    let done = story.send(1, 0, "Appended term 1 last 1");
    story.wait(250).lose(to_n3);
    story.wait(500).receive(done).state("commit=1");
    story.at(0, Kind::Tell, "committed 1");
    story.wait(30).answer(0, Some(0), put, "ok, revision 2");
}

fn second_leader(story: &mut Story) {
    story.wait(120).at(1, Kind::Crash, "loses power; 1 record was not synced").state("log=");
    story.wait(2_000).fault(&[0, 1, 2], "partition: n1 | n2 n3");
    story.wait(5_000).at(2, Kind::Resume, "goes on after 8.4 ms");
    story.wait(20_000).at(1, Kind::Boot, "starts with 1 record");
    story.state("role=follower, term=1, vote=n1, commit=0");
    let beat = story.wait(11_000).send(0, 1, "Append term 1 previous 1 commit 1");
    story.send(0, 2, "Append term 1 previous 1 commit 1");
    story.wait(700).lose(beat);
    story.wait(160_000).at(1, Kind::Timer, "election").state("role=candidate, term=2, vote=n2");
    let to_n1 = story.send(1, 0, "RequestVote term 2 last 0");
    let to_n3 = story.send(1, 2, "RequestVote term 2 last 0");
    story.wait(650).receive(to_n3).state("term=2, vote=n2");
    let yes = story.send(2, 1, "Vote term 2 granted");
    story.wait(150).lose(to_n1);
    story.wait(600).receive(yes).state("role=leader");
    story.at(1, Kind::Tell, "leads term 2, while n1 leads term 1");
}

fn stale_read(story: &mut Story) {
    story.wait(3_000);
    let read = story.invoke(1, 1, "get x");
    let ask = story.wait(10).send(1, 2, "Append term 2 previous 0 round 1");
    story.wait(700).receive(ask);
    let yes = story.send(2, 1, "Appended term 2 last 0 round 1");
    story.wait(640).receive(yes);
    story.wait(20).answer(1, Some(1), read, "x is absent, revision 1");
}

/// Texts that would like to be more than texts, in every place that holds one.
pub(crate) fn evil() -> Trace {
    let script = "</script><script>document.title = 'evil'</script>";
    let mut story =
        Story::new(&["<b>n1</b>", "n\u{202e}2\"'", "</script>", ""], &["&lt;c1&gt;", "__proto__"]);
    story.at(0, Kind::Boot, script).state("term=<i>1</i>, role=leader\u{0}\u{7}\u{1b}[31m");
    story.at(1, Kind::Boot, "<!-- <script> -->").state("__proto__=x, constructor=y");
    story.at(2, Kind::Boot, "{{script}} ${1} `\\u{41}` \\ \u{2028} \u{2029} \u{feff}");
    let lost = story.send(0, 2, "<img src=x onerror=\"console.error('evil')\">");
    let _ = story.send(2, 2, "to itself");
    let invoked = story.invoke(0, 3, "put </textarea> = '\"><svg/onload=alert(1)>'");
    story.wait(5).lose(lost).fault(&[], "]]> &amp; \r\n\t end");
    story.answer(
        0,
        None,
        invoked,
        "\u{1f980} \u{e9} \u{4e2d}\u{6587} \u{5e9}\u{5dc}\u{5d5}\u{5dd}",
    );
    story.trace.head.mutant = Some(script.to_owned());
    story.trace.head.awaited = vec![format!("{script}<img src=x>\u{202e}")];
    story.trace.head.model = "<base href='http://example.invalid/'>".to_owned();
    story.trace.head.replay = "quorate sim --seed '$(</script>)'".to_owned();
    story.violation(&format!("<h1>{script}"), &format!("{script}\u{0}"))
}

/// A generator that is good enough to draw traces by: D. Knuth's for MMIX ("The Art of Computer
/// Programming" 2, 3.3.4), of which the upper bits are taken.
struct Lot(u64);

impl Lot {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound as u64) as usize
    }
}

/// A run of `steps` steps among `nodes` nodes that means nothing and holds everything.
pub(crate) fn by_lot(seed: u64, nodes: usize, steps: usize) -> Trace {
    let names: Vec<String> = (1..=nodes).map(|node| format!("n{node}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut story = Story::new(&names, &["c1", "c2", "c3"]);
    let mut lot = Lot(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..4).for_each(|_| {
        lot.below(2);
    });
    let (mut flying, mut asked, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    let mut term = 0;
    while story.trace.steps.len() < steps {
        story.wait(lot.below(900) as u64);
        let (node, peer) = (lot.below(nodes), lot.below(nodes));
        match lot.below(20) {
            0 if !asked.is_empty() => {
                let (client, node, operation) = asked.swap_remove(lot.below(asked.len()));
                let node = (lot.below(3) > 0).then_some(node);
                story.answer(client, node, operation, "ok");
            }
            0 | 1 => {
                let client = lot.below(3);
                asked.push((client, node, story.invoke(client, node, "put k = v")));
            }
            2 => rare(&mut story, &mut lot, node, &mut faults, &mut term),
            3 => drop(story.at(node, Kind::Synced, "3 records")),
            4 => drop(story.at(node, Kind::Timer, "heartbeat").state("commit=9")),
            5..12 if !flying.is_empty() => {
                let at = lot.below(flying.len().min(20));
                match lot.below(8) {
                    0 => drop(story.lose(flying.swap_remove(at))),
                    1 => drop(story.receive(flying[at])),
                    _ => drop(story.receive(flying.swap_remove(at))),
                }
            }
            _ => flying.push(story.send(node, peer, "Append term 3 previous 17 entries 2")),
        }
    }
    story.trace()
}

fn rare(story: &mut Story, lot: &mut Lot, node: usize, faults: &mut Vec<u64>, term: &mut u64) {
    match lot.below(6) {
        0 => {
            story.at(node, Kind::Crash, "loses power");
        }
        1 | 2 => {
            story.at(node, Kind::Boot, "starts with 9 records").state("role=follower");
        }
        3 if !faults.is_empty() => {
            let fault = faults.swap_remove(lot.below(faults.len()));
            story.heal(fault, "the network is whole");
        }
        3 => faults.push(story.fault(&[node], "cut off")),
        4 => {
            *term += 1;
            let state = format!("role=leader, term={term}");
            story.at(node, Kind::Tell, "leads").state(&state);
        }
        _ => {
            story.at(node, Kind::Note, "a remark");
        }
    }
}
