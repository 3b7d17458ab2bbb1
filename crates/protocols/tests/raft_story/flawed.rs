//! Raft with a planted bug, told in the same words.
//!
//! A script names the bug by `mutant=...` among the words of `cluster` and `node`.

use super::RaftStory;
use quorate_core::{Context, NodeId, Protocol, SystemModel};
use quorate_drivers::scenario::{Misread, Options, Seat, Transcript};
use quorate_protocols::consensus::raft::{
    Config, Indication, Message, Mutant, Raft, Record, Request, Timer,
};

/// A member with a known mistake in it.
pub(crate) struct Flawed(Raft);

impl Flawed {
    /// Runs the member within; what it tells is passed on after its other effects.
    fn inner(
        &mut self,
        cx: &mut Context<'_, Self>,
        run: impl FnOnce(&mut Raft, &mut Context<'_, Raft>),
    ) {
        let heard = cx.child(|cx| run(&mut self.0, cx));
        heard.into_iter().for_each(|indication| cx.indicate(indication));
    }
}

impl Protocol for Flawed {
    type Config = (Config, Option<Mutant>);
    type Message = Message;
    type Timer = Timer;
    type Record = Record;
    type Request = Request;
    type Indication = Indication;

    const MODEL: SystemModel = Raft::MODEL;

    fn restore(config: &Self::Config, records: &mut dyn Iterator<Item = Record>) -> Self {
        let (config, mutant) = config;
        Flawed(Raft::restore(config, records).with_mutant(*mutant))
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.inner(cx, |raft, cx| raft.on_start(cx));
    }

    fn on_request(&mut self, request: Request, cx: &mut Context<'_, Self>) {
        self.inner(cx, |raft, cx| raft.on_request(request, cx));
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        self.inner(cx, |raft, cx| raft.on_message(from, message, cx));
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        self.inner(cx, |raft, cx| raft.on_timer(timer, cx));
    }

    fn on_flush(&mut self, cx: &mut Context<'_, Self>) {
        self.inner(cx, |raft, cx| raft.on_flush(cx));
    }

    fn invariants(&self) {
        self.0.invariants();
    }
}

/// The words of [`RaftStory`], and `mutant=...`.
pub(crate) struct FlawedStory;

impl Transcript for FlawedStory {
    type Node = Flawed;

    fn seat(
        node: NodeId,
        members: &[NodeId],
        options: &mut Options,
    ) -> Result<Seat<Flawed>, Misread> {
        let mutant = options.value("mutant").map(mutant).transpose()?;
        let Seat { config, records } = RaftStory::seat(node, members, options)?;
        Ok(Seat { config: (config, mutant), records })
    }

    fn request(words: &[&str]) -> Result<Request, Misread> {
        RaftStory::request(words)
    }

    fn message(message: &Message) -> String {
        RaftStory::message(message)
    }

    fn record(record: &Record) -> String {
        RaftStory::record(record)
    }

    fn indication(indication: &Indication) -> String {
        RaftStory::indication(indication)
    }

    fn state(node: &Flawed) -> String {
        RaftStory::state(&node.0)
    }

    fn damaged(record: &Record) -> Option<Record> {
        RaftStory::damaged(record)
    }

    fn safety(nodes: &[&Flawed]) {
        let nodes: Vec<&Raft> = nodes.iter().map(|node| &node.0).collect();
        RaftStory::safety(&nodes);
    }
}

fn mutant(word: &str) -> Result<Mutant, Misread> {
    let known = super::MUTANTS.iter().find(|mutant| format!("{mutant:?}") == word);
    known.copied().ok_or_else(|| Misread::wanted("mutant", word))
}
