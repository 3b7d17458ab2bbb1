//! How each model is asked at random.

use super::{Draw, Subject};
use quorate_check::models::Value;
use quorate_check::models::keyed::{Keyed, On};
use quorate_check::models::kv::{Kv, KvInput, KvOutput};
use quorate_check::models::lock::{Held, Lock, LockInput, LockOutput};
use quorate_check::models::queue::{Queue, QueueInput, QueueOutput};
use quorate_check::models::register::{Register, RegisterInput, RegisterOutput};
use quorate_check::models::set::{Set, SetInput, SetOutput};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Registers with compare-and-set.
pub(crate) type Cas = Keyed<Register<Value>>;

/// Registers that begin empty.
pub(crate) fn cas() -> Cas {
    Keyed(Register::default())
}

impl Subject for Cas {
    fn key(on: &On<RegisterInput<Value>>) -> String {
        on.key.to_string()
    }

    fn ask(draw: &mut Draw<'_>) -> On<RegisterInput<Value>> {
        let key = draw.key().into();
        let input = match draw.below(5) {
            0 | 1 => RegisterInput::Read,
            2 | 3 => RegisterInput::Write(draw.number().into()),
            _ => RegisterInput::Cas { from: draw.number().into(), to: draw.number().into() },
        };
        On { key, input }
    }

    fn answer(&self, state: &Value, on: &On<RegisterInput<Value>>) -> RegisterOutput<Value> {
        match &on.input {
            RegisterInput::Read => RegisterOutput::Value(state.clone()),
            RegisterInput::Write(_) => RegisterOutput::Written,
            RegisterInput::Cas { from, .. } => RegisterOutput::Swapped(from == state),
        }
    }

    fn spoil(output: RegisterOutput<Value>, draw: &mut Draw<'_>) -> RegisterOutput<Value> {
        match output {
            RegisterOutput::Value(_) => RegisterOutput::Value(draw.number().into()),
            RegisterOutput::Swapped(is_swapped) => RegisterOutput::Swapped(!is_swapped),
            RegisterOutput::Written => output,
        }
    }
}

impl Subject for Kv {
    fn key(input: &KvInput) -> String {
        input.key().to_string()
    }

    fn ask(draw: &mut Draw<'_>) -> KvInput {
        let (key, value) = (draw.key().into(), draw.number().to_string().into());
        match draw.below(4) {
            0 | 1 => KvInput::Get { key },
            2 => KvInput::Put { key, value },
            _ => KvInput::Append { key, value },
        }
    }

    fn answer(&self, state: &Arc<str>, input: &KvInput) -> KvOutput {
        match input {
            KvInput::Get { .. } => KvOutput::Text(state.clone()),
            _ => KvOutput::Done,
        }
    }

    fn spoil(output: KvOutput, draw: &mut Draw<'_>) -> KvOutput {
        match output {
            KvOutput::Text(text) => {
                let keep = usize::from(draw.below(3)).min(text.len());
                KvOutput::Text(text[..keep].into())
            }
            KvOutput::Done => output,
        }
    }
}

impl Subject for Queue<Value> {
    fn key(_: &QueueInput<Value>) -> String {
        String::new()
    }

    fn ask(draw: &mut Draw<'_>) -> QueueInput<Value> {
        match draw.below(2) {
            0 => QueueInput::Dequeue,
            _ => QueueInput::Enqueue(draw.number().into()),
        }
    }

    fn answer(&self, state: &VecDeque<Value>, input: &QueueInput<Value>) -> QueueOutput<Value> {
        match input {
            QueueInput::Enqueue(_) => QueueOutput::Enqueued,
            QueueInput::Dequeue => QueueOutput::Dequeued(state.front().cloned()),
        }
    }

    fn spoil(output: QueueOutput<Value>, draw: &mut Draw<'_>) -> QueueOutput<Value> {
        match output {
            QueueOutput::Dequeued(_) => QueueOutput::Dequeued(match draw.below(2) {
                0 => None,
                _ => Some(draw.number().into()),
            }),
            QueueOutput::Enqueued => output,
        }
    }
}

impl Subject for Set<Value> {
    fn key(_: &SetInput<Value>) -> String {
        String::new()
    }

    fn ask(draw: &mut Draw<'_>) -> SetInput<Value> {
        let value = draw.number().into();
        match draw.below(7) {
            0..=2 => SetInput::Contains(value),
            3 | 4 => SetInput::Add(value),
            5 => SetInput::Remove(value),
            _ => SetInput::Read,
        }
    }

    fn answer(&self, state: &BTreeSet<Value>, input: &SetInput<Value>) -> SetOutput<Value> {
        match input {
            SetInput::Contains(value) => SetOutput::Is(state.contains(value)),
            SetInput::Read => SetOutput::All(state.clone()),
            _ => SetOutput::Done,
        }
    }

    fn spoil(output: SetOutput<Value>, draw: &mut Draw<'_>) -> SetOutput<Value> {
        match output {
            SetOutput::Is(is_there) => SetOutput::Is(!is_there),
            SetOutput::All(mut all) => {
                all.insert(draw.number().into());
                SetOutput::All(all)
            }
            SetOutput::Done => output,
        }
    }
}

impl Subject for Lock {
    fn key(input: &LockInput) -> String {
        match input {
            LockInput::Acquire { lock, .. } | LockInput::Release { lock, .. } => lock.to_string(),
        }
    }

    fn ask(draw: &mut Draw<'_>) -> LockInput {
        let (lock, holder) = (draw.key().into(), draw.number().to_string().into());
        match draw.below(2) {
            0 => LockInput::Release { lock, holder },
            _ => LockInput::Acquire { lock, holder },
        }
    }

    fn answer(&self, state: &Held, input: &LockInput) -> LockOutput {
        match input {
            LockInput::Acquire { .. } if state.holder.is_some() => LockOutput::Busy,
            LockInput::Acquire { .. } => LockOutput::Acquired(Some(state.token + 1)),
            LockInput::Release { holder, .. } if state.holder.as_ref() == Some(holder) => {
                LockOutput::Released
            }
            LockInput::Release { .. } => LockOutput::NotHeld,
        }
    }

    fn spoil(output: LockOutput, draw: &mut Draw<'_>) -> LockOutput {
        match output {
            LockOutput::Acquired(_) => LockOutput::Acquired(Some(u64::from(draw.below(3)))),
            LockOutput::Busy => LockOutput::Acquired(None),
            LockOutput::Released => LockOutput::NotHeld,
            LockOutput::NotHeld => LockOutput::Released,
        }
    }
}
