//! What clients asked, and what they were told: the raw material of every check.
//!
//! A history is a list of operations in the order in which they began. Each carries two stamps out
//! of *one total order*: when it was invoked, and when its answer came. Who records a history draws
//! both stamps from one counter (a [`Recorder`] does), because stamps of different clocks show
//! violations that never happened.
//!
//! The outcome is a type of three words, for there is a mistake that almost everybody makes once:
//!
//! | outcome | the operation | as a constraint |
//! |---|---|---|
//! | [`Outcome::Ok`] | took effect between its stamps, with this output | the strongest |
//! | [`Outcome::Failed`] | took no effect, ever | as if it were not there |
//! | [`Outcome::Unknown`] | may take effect at any time after its invocation, or never | optional |
//!
//! A time-out, a lost connection and a crash of the client are `Unknown`. A history that calls them
//! failed is refuted by a correct store.
//!
//! Source: Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects",
//! 1990, section 2; Jepsen's `:ok`, `:fail` and `:info`.

use std::fmt;

/// A client: one session that asks one thing after another. Any number, unique in a history.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientId(pub u64);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.0)
    }
}

/// An operation: its place in the history, counted from 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OpId(pub usize);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A moment: a place in the one total order of all invocations and returns.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Stamp(pub u64);

/// What became of an operation, as far as its client knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome<O> {
    /// It took effect, with this output.
    Ok(O),
    /// It took no effect and never will: the answer said so. Not a time-out.
    Failed,
    /// It may take effect at any later time, or never: a time-out, a lost connection, no answer.
    Unknown,
}

impl<O> Outcome<O> {
    /// The output, if there is one.
    pub fn output(&self) -> Option<&O> {
        match self {
            Outcome::Ok(output) => Some(output),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }
}

/// One operation of one client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operation<I, O> {
    /// Who asked.
    pub client: ClientId,
    /// What was asked.
    pub input: I,
    /// What came of it.
    pub outcome: Outcome<O>,
    /// When it was asked.
    pub invoked: Stamp,
    /// When the client stopped waiting; `None` if it never did. Of an unknown outcome this says
    /// nothing about when, or whether, the operation took effect.
    pub returned: Option<Stamp>,
    /// The revision of the store at which it took effect or was answered, if the store told: a
    /// witness of the order, see [`crate::witness`].
    pub revision: Option<u64>,
}

impl<I, O> Operation<I, O> {
    /// The moment by which it must have taken effect; `None` if there is none.
    pub fn deadline(&self) -> Option<Stamp> {
        match self.outcome {
            Outcome::Ok(_) => self.returned,
            Outcome::Failed | Outcome::Unknown => None,
        }
    }
}

/// Operations in the order of their invocations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct History<I, O> {
    operations: Vec<Operation<I, O>>,
}

impl<I, O> Default for History<I, O> {
    fn default() -> Self {
        History { operations: Vec::new() }
    }
}

impl<I, O> History<I, O> {
    /// Puts operations in order.
    ///
    /// # Panics
    ///
    /// If two operations were invoked at one stamp, if one returned before it was invoked, or if an
    /// output came at no time: such a list is no history.
    pub fn new(mut operations: Vec<Operation<I, O>>) -> Self {
        operations.sort_by_key(|operation| operation.invoked);
        let pairs = operations.windows(2);
        for pair in pairs {
            assert!(pair[0].invoked < pair[1].invoked, "stamps are of one total order");
        }
        for operation in &operations {
            let is_timed = operation.returned.is_some_and(|at| at > operation.invoked);
            let needs_time = matches!(operation.outcome, Outcome::Ok(_));
            assert!(is_timed || (operation.returned.is_none() && !needs_time), "it ends later");
        }
        History { operations }
    }

    /// All operations; an [`OpId`] is a place here.
    pub fn operations(&self) -> &[Operation<I, O>] {
        &self.operations
    }

    /// One operation.
    ///
    /// # Panics
    ///
    /// If it is of another history.
    pub fn operation(&self, id: OpId) -> &Operation<I, O> {
        &self.operations[id.0]
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// True if there is no operation.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// Writes a history down while it happens: an addition and a push for each call.
#[derive(Clone, Debug)]
pub struct Recorder<I, O> {
    operations: Vec<Operation<I, O>>,
    stamp: u64,
}

impl<I, O> Default for Recorder<I, O> {
    fn default() -> Self {
        Recorder { operations: Vec::new(), stamp: 0 }
    }
}

impl<I, O> Recorder<I, O> {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Recorder::default()
    }

    fn tick(&mut self) -> Stamp {
        self.stamp += 1;
        Stamp(self.stamp)
    }

    /// `client` asks. Until [`Recorder::returned`] is called, the outcome is unknown.
    pub fn invoke(&mut self, client: ClientId, input: I) -> OpId {
        let invoked = self.tick();
        let outcome = Outcome::Unknown;
        let operation =
            Operation { client, input, outcome, invoked, returned: None, revision: None };
        self.operations.push(operation);
        OpId(self.operations.len() - 1)
    }

    /// The client stops waiting: it was answered, or it gave up.
    ///
    /// # Panics
    ///
    /// If the operation is over already, or of another recorder.
    pub fn returned(&mut self, id: OpId, outcome: Outcome<O>) {
        let stamp = self.tick();
        let operation = &mut self.operations[id.0];
        assert!(operation.returned.is_none(), "an operation ends once");
        operation.returned = Some(stamp);
        operation.outcome = outcome;
    }

    /// The same, with the revision that came with the answer.
    ///
    /// # Panics
    ///
    /// As [`Recorder::returned`].
    pub fn returned_at(&mut self, id: OpId, outcome: Outcome<O>, revision: u64) {
        self.returned(id, outcome);
        self.operations[id.0].revision = Some(revision);
    }

    /// The history so far. What is still under way is of unknown outcome.
    pub fn history(self) -> History<I, O> {
        History { operations: self.operations }
    }

    /// The operations so far.
    pub fn operations(&self) -> &[Operation<I, O>] {
        &self.operations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_of_one_order_and_open_operations_are_of_unknown_outcome() {
        let mut recorder: Recorder<&str, u8> = Recorder::new();
        let first = recorder.invoke(ClientId(1), "a");
        let second = recorder.invoke(ClientId(2), "b");
        recorder.returned_at(first, Outcome::Ok(7), 3);
        let history = recorder.history();
        assert_eq!(history.operation(first).returned, Some(Stamp(3)));
        assert_eq!(history.operation(first).revision, Some(3));
        assert_eq!(history.operation(first).deadline(), Some(Stamp(3)));
        assert_eq!(history.operation(second).outcome, Outcome::Unknown);
        assert_eq!(history.operation(second).deadline(), None);
    }

    #[test]
    fn a_time_out_has_no_deadline_though_the_client_stopped_waiting() {
        let mut recorder: Recorder<&str, u8> = Recorder::new();
        let id = recorder.invoke(ClientId(1), "a");
        recorder.returned(id, Outcome::Unknown);
        let history = recorder.history();
        assert_eq!(history.operation(id).returned, Some(Stamp(2)));
        assert_eq!(history.operation(id).deadline(), None);
    }

    #[test]
    #[should_panic(expected = "ends once")]
    fn an_operation_ends_once() {
        let mut recorder: Recorder<&str, u8> = Recorder::new();
        let id = recorder.invoke(ClientId(1), "a");
        recorder.returned(id, Outcome::Unknown);
        recorder.returned(id, Outcome::Ok(1));
    }

    #[test]
    #[should_panic(expected = "one total order")]
    fn two_things_at_one_moment_are_refused() {
        let mut recorder: Recorder<&str, u8> = Recorder::new();
        recorder.invoke(ClientId(1), "a");
        let operation = recorder.operations()[0].clone();
        History::new(vec![operation.clone(), operation]);
    }
}
