//! A protocol of your own under simulation: from its definition to a planted bug that is found,
//! explained and printed.
//!
//! ```text
//! cargo run -p quorate-drivers --example own_protocol
//! ```
//!
//! The protocol: node n1 owns a token and gives it to the first node that asks. What must hold is
//! one sentence: *no two nodes are given the token*. The bug is one word long.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use quorate_core::{Context, NodeId, Protocol, SystemModel};
use quorate_drivers::simulate::{
    About, Keep, Origin, Outcome, Plain, Plan, Seen, Site, Violation, run,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The owner of the token.
const OWNER: NodeId = NodeId(1);

/// A node. It is a value: no clock, no thread, no socket, no file.
struct Token {
    /// Only the owner's counts: to whom the token was given.
    holder: Option<NodeId>,
}

/// What nodes say to each other.
#[derive(Clone, Debug)]
enum Message {
    /// May I have the token?
    Ask,
    /// It is yours.
    Granted,
}

impl Protocol for Token {
    type Config = (); //                nothing is known before the first event
    type Message = Message; //          what travels
    type Timer = (); //                 no alarms are set
    type Record = NodeId; //            what a disk remembers: who was given the token
    type Request = (); //               the layer above asks for the token
    type Indication = (); //            and is told when it has it

    // What the protocol claims to need: the simulator never does more than a model permits.
    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    // A life begins with the records that were durable when the last one ended.
    fn restore(_config: &(), records: &mut dyn Iterator<Item = NodeId>) -> Token {
        Token { holder: records.last() }
    }

    // The layer above asks: pass the question on to the owner.
    fn on_request(&mut self, _request: (), cx: &mut Context<'_, Token>) {
        cx.send(OWNER, Message::Ask);
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Token>) {
        match message {
            // The first that asks is remembered, and answered.
            Message::Ask if self.holder.is_none() => {
                self.holder = Some(from);
                cx.write(from);
                // The bug: the answer leaves at once, not when the record is durable. Write
                // `send_once_durable` here, and the search below finds nothing.
                cx.send(from, Message::Granted);
            }
            // All others are not.
            Message::Ask => {}
            // The token has come: tell the layer above.
            Message::Granted => cx.indicate(()),
        }
    }

    // No alarms are set, so none go off.
    fn on_timer(&mut self, _timer: (), _cx: &mut Context<'_, Token>) {}
}

/// The world around the nodes: who asks for what, and what must hold.
fn world() -> Plain<Token> {
    // Every node has the same configuration: none.
    Plain::<Token>::new(|_id, _all| ())
        // Five times in a second somebody asks. Who, is drawn: at a place of its own, so that the
        // run can be repeated, and be made smaller.
        .workload(Duration::from_millis(200), |nodes, hands| {
            let who = hands.draw(Site::new(About::Client, 0), nodes.len() as u64);
            hands.request(who as usize, Duration::ZERO, ());
        })
        // The one sentence, checked after each turn of each node.
        .property("one token", one_token)
        // What a reader of the trace sees of a node.
        .portrait(|token| BTreeMap::from([("holder".to_owned(), format!("{:?}", token.holder))]))
}

/// No two nodes were told that they have the token.
fn one_token(seen: &Seen<'_, Token>) -> Result<(), String> {
    let told = |node: &usize| !seen.told(*node).is_empty();
    let holders: Vec<String> =
        (0..seen.len()).filter(told).map(|node| format!("n{}", node + 1)).collect();
    match holders.len() {
        0 | 1 => Ok(()),
        _ => Err(format!("{} were all given the token", holders.join(", "))),
    }
}

fn main() {
    // Lossy links, nodes that crash and return, delays that are bounded most of the time: all
    // faults that this permits may happen, a third of them in each run.
    let plan = Plan::of(Token::MODEL);
    // One seed is one run. The first that breaks the property is a counter-example.
    let broken =
        |seed: &u64| run(world(), &plan, Origin::Seed(*seed), Keep::Outcome).violation.is_some();
    let Some(seed) = (0..10_000).find(broken) else {
        println!("no run broke anything");
        return;
    };
    // The same seed is the same run, to the last bit; this time with a trace.
    let outcome = run(world(), &plan, Origin::Seed(seed), Keep::Trace);
    print(seed, &outcome);
}

/// The story of a run: what happened when, and where.
fn print(seed: u64, outcome: &Outcome) {
    for step in outcome.steps.iter().flatten() {
        let at = Duration::from_nanos(step.at);
        let node = step.node.map_or("--".to_owned(), |node| format!("n{}", node + 1));
        println!("{:>12.6} s  {node}  {:<9} {}", at.as_secs_f64(), word(step.kind), step.text);
    }
    if let Some(Violation { property, why, .. }) = &outcome.violation {
        println!("\nseed {seed} breaks '{property}': {why}");
    }
    println!("digest {:016x}, the same on every machine", outcome.digest);
}

/// The kind of a step, in small letters.
fn word(kind: impl std::fmt::Debug) -> String {
    format!("{kind:?}").to_lowercase()
}
