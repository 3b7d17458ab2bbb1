//! What a handler may see and do.

use crate::{Effect, NodeId, Protocol, Release, Time};
use std::ops::Range;
use std::time::Duration;

/// The world as one handler sees it. Borrowed for one call, so no handler can block, keep it or
/// wait for an answer.
pub struct Context<'a, P: Protocol> {
    /// This node.
    pub id: NodeId,
    /// This node's monotonic clock, read once per event by the driver.
    pub now: Time,
    choose: &'a mut dyn FnMut(usize) -> usize,
    effects: &'a mut Vec<Effect<P>>,
}

impl<'a, P: Protocol> Context<'a, P> {
    /// For drivers: `effects` is a buffer that the driver drains after the call and reuses.
    pub fn new(
        id: NodeId,
        now: Time,
        choose: &'a mut dyn FnMut(usize) -> usize,
        effects: &'a mut Vec<Effect<P>>,
    ) -> Self {
        Context { id, now, choose, effects }
    }

    /// A number below `options`: drawn by the simulator, enumerated by the explorer.
    ///
    /// Panics: if `options` is zero.
    pub fn choose(&mut self, options: usize) -> usize {
        assert!(options > 0, "a choice among nothing");
        let chosen = (self.choose)(options);
        assert!(chosen < options, "the driver chose {chosen} of {options}");
        chosen
    }

    /// Sends at once, in parallel with the disk.
    pub fn send(&mut self, to: NodeId, message: P::Message) {
        self.effects.push(Effect::Send { to, message, release: Release::Immediately });
    }

    /// Sends when every record written before this call is on stable storage: *remember, then
    /// answer*.
    pub fn send_once_durable(&mut self, to: NodeId, message: P::Message) {
        self.effects.push(Effect::Send { to, message, release: Release::OnceDurable });
    }

    /// Arms (or re-arms) a named alarm to fire once at a moment within the range from now.
    pub fn set_timer(&mut self, timer: P::Timer, within: Range<Duration>) {
        self.effects.push(Effect::SetTimer { timer, within });
    }

    /// Disarms a named alarm.
    pub fn cancel_timer(&mut self, timer: P::Timer) {
        self.effects.push(Effect::CancelTimer { timer });
    }

    /// Appends a record to stable storage.
    pub fn write(&mut self, record: P::Record) {
        self.effects.push(Effect::Write { record });
    }

    /// Tells the layer above.
    pub fn indicate(&mut self, indication: P::Indication) {
        self.effects.push(Effect::Indicate { indication });
    }

    /// Runs a part of ourselves: its effects pass through, its indications come back.
    pub fn child<C: Protocol>(
        &mut self,
        run: impl FnOnce(&mut Context<'_, C>),
    ) -> Vec<C::Indication>
    where
        P::Message: From<C::Message>,
        P::Timer: From<C::Timer>,
        P::Record: From<C::Record>,
    {
        let mut effects = Vec::new(); // allocates only if the child asks for something
        run(&mut Context::new(self.id, self.now, &mut *self.choose, &mut effects));
        let mut heard = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { to, message, release } => {
                    self.effects.push(Effect::Send { to, message: message.into(), release });
                }
                Effect::SetTimer { timer, within } => self.set_timer(timer.into(), within),
                Effect::CancelTimer { timer } => self.cancel_timer(timer.into()),
                Effect::Write { record } => self.write(record.into()),
                Effect::Indicate { indication } => heard.push(indication),
            }
        }
        heard
    }
}
