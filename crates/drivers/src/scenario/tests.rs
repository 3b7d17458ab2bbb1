//! A counter that remembers before it answers, and one that answers too early.

use super::{Misread, Options, Seat, Transcript, check_folder, play};
use quorate_core::{Context, NodeId, Protocol, SystemModel};
use std::time::Duration;

/// The node which keeps the counter; the others ask it.
const KEEPER: NodeId = NodeId(1);

/// When the keeper answers.
#[derive(Clone, Copy, Debug)]
enum Answer {
    OnceDurable,
    /// The planted bug.
    AtOnce,
}

#[derive(Clone, Debug)]
struct Config {
    answer: Answer,
}

/// Node 1 counts; the others remember the highest count that was acknowledged to them.
#[derive(Clone, Debug)]
struct Counter {
    answer: Answer,
    total: u64,
    acknowledged: u64,
    is_keeper: bool,
}

#[derive(Clone, Debug)]
enum Message {
    Add,
    Added { total: u64 },
}

#[derive(Clone, Debug)]
struct Total(u64);

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Timer {
    Retry,
}

impl Protocol for Counter {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Record = Total;
    type Request = Message;
    type Indication = Message;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &Config, records: &mut dyn Iterator<Item = Total>) -> Self {
        let total = records.last().map_or(0, |Total(total)| total);
        Counter { answer: config.answer, total, acknowledged: 0, is_keeper: false }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.is_keeper = cx.id == KEEPER;
    }

    fn on_request(&mut self, request: Message, cx: &mut Context<'_, Self>) {
        cx.send(KEEPER, request);
        cx.set_timer(Timer::Retry, Duration::from_millis(100)..Duration::from_millis(200));
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        match message {
            Message::Add => {
                self.total += 1;
                cx.write(Total(self.total));
                let added = Message::Added { total: self.total };
                match self.answer {
                    Answer::OnceDurable => cx.send_once_durable(from, added),
                    Answer::AtOnce => cx.send(from, added),
                }
            }
            Message::Added { total } => {
                self.acknowledged = self.acknowledged.max(total);
                cx.cancel_timer(Timer::Retry);
                cx.indicate(Message::Added { total });
            }
        }
    }

    fn on_timer(&mut self, Timer::Retry: Timer, cx: &mut Context<'_, Self>) {
        self.on_request(Message::Add, cx);
    }
}

struct Story;

impl Transcript for Story {
    type Node = Counter;

    fn seat(_: NodeId, _: &[NodeId], options: &mut Options) -> Result<Seat<Counter>, Misread> {
        let answer = match options.value("answer") {
            None => Answer::OnceDurable,
            Some("at-once") => Answer::AtOnce,
            Some(other) => return Err(Misread::wanted("way to answer", other)),
        };
        Ok(Seat { config: Config { answer }, records: Vec::new() })
    }

    fn request(words: &[&str]) -> Result<Message, Misread> {
        match words {
            ["add"] => Ok(Message::Add),
            words => Err(Misread::wanted("request", &words.join(" "))),
        }
    }

    fn message(message: &Message) -> String {
        match message {
            Message::Add => "Add".to_owned(),
            Message::Added { total } => format!("Added total={total}"),
        }
    }

    fn record(record: &Total) -> String {
        format!("total={}", record.0)
    }

    fn indication(indication: &Message) -> String {
        Story::message(indication)
    }

    fn state(node: &Counter) -> String {
        format!("total={} acknowledged={}", node.total, node.acknowledged)
    }

    /// What was acknowledged to anybody is counted.
    fn safety(nodes: &[&Counter]) {
        let Some(keeper) = nodes.iter().find(|node| node.is_keeper) else { return };
        let acknowledged = nodes.iter().map(|node| node.acknowledged).max().unwrap_or(0);
        assert!(
            acknowledged <= keeper.total,
            "{acknowledged} acknowledged, {} counted",
            keeper.total
        );
    }
}

/// The keeper crashes between its write and its sync.
const CRASH_BEFORE_SYNC: &str = "\
request n2 add
deliver to=n1
crash n1
restart n1
";

#[test]
fn an_answer_waits_for_the_disk_and_dies_with_what_was_not_synced() {
    let script = format!("# Remember, then answer.\ncluster nodes=2\n{CRASH_BEFORE_SYNC}----\n");
    let expected = "\
# Remember, then answer.
cluster nodes=2
request n2 add
deliver to=n1
crash n1
restart n1
----
n2 is asked: add
  n2 -> n1 Add
n1 <- n2 Add
  n1 writes 1: total=1
  n1 -| n2 Added total=1 [waits for 1]
n1 crashes
  n1 loses 1: total=1
  n1 -x n2 Added total=1
n1 restarts with 0 records
";
    assert_eq!(play::<Story>(&script).expect("a story"), expected);
}

#[test]
fn the_hasty_counter_tells_another_story() {
    let script = format!("cluster nodes=2\n{CRASH_BEFORE_SYNC}----\n");
    let careful = play::<Story>(&script).expect("a story");
    let hasty = script.replace("nodes=2", "nodes=2 answer=at-once");
    let hasty = play::<Story>(&hasty).expect("a story");
    assert!(careful.contains("n1 -| n2 Added total=1 [waits for 1]"), "{careful}");
    assert!(hasty.contains("n1 -> n2 Added total=1\n"), "{hasty}");
}

#[test]
#[should_panic(
    expected = "\n-   n1 -| n2 Added total=1 [waits for 1]\n+   n1 -> n2 Added total=1\n"
)]
fn a_file_that_does_not_fit_is_refused_with_the_difference() {
    let script = format!("cluster nodes=2 answer=at-once\n{CRASH_BEFORE_SYNC}----\n");
    let recorded = play::<Story>(&script).expect("a story");
    let recorded =
        recorded.replace("n1 -> n2 Added total=1", "n1 -| n2 Added total=1 [waits for 1]");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hasty.txt");
    std::fs::write(&path, recorded).expect("a file");
    check_folder::<Story>(folder.path());
}

#[test]
#[should_panic(expected = "1 acknowledged, 0 counted")]
fn the_hasty_counter_breaks_its_promise() {
    let script =
        format!("cluster nodes=2 answer=at-once\n{CRASH_BEFORE_SYNC}deliver to=n2\n----\n");
    play::<Story>(&script).expect("a story");
}

#[test]
fn the_careful_counter_keeps_its_promise_once_synced() {
    let script = "\
cluster nodes=2
request n2 add
deliver to=n1
sync n1
crash n1
restart n1
deliver to=n2
state
----
n2 is asked: add
  n2 -> n1 Add
n1 <- n2 Add
  n1 writes 1: total=1
  n1 -| n2 Added total=1 [waits for 1]
n1 synced 1
  n1 -> n2 Added total=1 [durable 1]
n1 crashes
n1 restarts with 1 records
n2 <- n1 Added total=1
  n2 indicates Added total=1
n1 total=1 acknowledged=0
n2 total=0 acknowledged=1
";
    assert_eq!(play::<Story>(script).expect("a story"), script);
}

#[test]
fn messages_are_lost_doubled_overtaken_and_parted() {
    let script = "\
cluster nodes=3
request n2 add
request n3 add
drop from=n2
duplicate from=n3 kind=Add
----
n2 is asked: add
  n2 -> n1 Add
n3 is asked: add
  n3 -> n1 Add
n2 -x n1 Add
n3 -> n1 Add [again]

# A lost message is asked again by the alarm, which goes off between 100 and 200 ms.
timers on
advance 90ms
fire n2 Retry
----
n2 timer Retry
  n2 -> n1 Add
  n2 sets Retry within 100ms..200ms

# The third message under way overtakes the others; one disk keeps up at once.
timers off
auto-sync on n1
deliver nth=3
inflight
----
n1 <- n2 Add
  n1 writes 1: total=1
  n1 -> n2 Added total=1 [durable 1]
n3 -> n1 Add
n3 -> n1 Add
n1 -> n2 Added total=1

partition n1 n3 | n2
----
n1 -x n2 Added total=1

deliver
heal
stabilize
----
n1 <- n3 Add
  n1 writes 2: total=2
  n1 -> n3 Added total=2 [durable 2]
n1 <- n3 Add
  n1 writes 3: total=3
  n1 -> n3 Added total=3 [durable 3]
n3 <- n1 Added total=2
  n3 indicates Added total=2
n3 <- n1 Added total=3
  n3 indicates Added total=3
";
    assert_eq!(play::<Story>(script).expect("a story"), script);
}

#[test]
fn a_partial_sync_releases_a_prefix_and_time_fires_alarms_in_order() {
    let script = "\
cluster nodes=3
request n2 add
request n3 add
log off
deliver
log on
sync n1 upto=1
crash n1
----
n2 is asked: add
  n2 -> n1 Add
n3 is asked: add
  n3 -> n1 Add
n1 synced 1
  n1 -> n2 Added total=1 [durable 1]
n1 crashes
  n1 loses 2: total=2
  n1 -x n3 Added total=2

advance 200ms
deliver to=n1 count=1
----
n2 timer Retry
  n2 -> n1 Add
n3 timer Retry
  n3 -> n1 Add
n2 -x n1 Add
";
    assert_eq!(play::<Story>(script).expect("a story"), script);
}

#[test]
fn a_script_that_makes_no_sense_is_refused_with_its_line() {
    for (script, line, reason) in [
        ("cluster nodes=2\njump n1\n----\n", 2, "'jump' is no command"),
        ("cluster nodes=2 colour=red\n----\n", 1, "nothing here is called 'colour'"),
        ("cluster nodes=2\n----\n\n\ndeliver\n----\n", 5, "no such message is under way"),
        ("cluster nodes=2\nfire n1 Retry\n----\n", 2, "n1 has no armed alarm Retry; armed: []"),
        ("cluster nodes=2\nrequest n2 subtract\n----\n", 2, "'subtract' is no request"),
        ("cluster nodes=2\nsync n1 upto=1\n----\n", 2, "n1 wrote 0 records, 0 are durable"),
        ("cluster nodes=2\npartition n1\n----\n", 2, "name every node on exactly one side"),
        ("cluster nodes=2\ncrash n1\nrequest n1 add\n----\n", 3, "n1 has crashed"),
        ("cluster nodes=2\n", 1, "no '----' follows these commands"),
    ] {
        let error = play::<Story>(script).expect_err(script);
        assert_eq!(error.line, line, "{script}");
        assert!(error.reason.0.starts_with(reason), "{error} for {script}");
    }
}
