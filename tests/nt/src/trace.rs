//! What happened in a run, line by line, and a number that stands for all of it.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    fmt,
    hash::{Hash, Hasher},
};

use crate::cpu::Name;

/// So many of the last lines are kept.
const KEPT: usize = 1 << 16;
/// So many of them are shown in a report.
const SHOWN: usize = 40;
/// Prints the trace while it grows, when set.
const PRINT: &str = "NT_SIM_TRACE";

/// One line.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Event {
    /// Units of 100 ns.
    pub(crate) time: u64,
    pub(crate) who: Option<Actor>,
    pub(crate) what: What,
}

/// Who does something, and where.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Actor {
    pub(crate) cpu: usize,
    pub(crate) irql: u8,
    pub(crate) name: Name,
}

/// What somebody does.
#[derive(Clone, Debug, Hash)]
pub(crate) enum What {
    /// Calls an export, with its first arguments.
    Calls { export: &'static str, arguments: [u64; 4], count: u8 },
    /// Goes on with the answer.
    Gets(u64),
    /// Is called by the kernel, from nothing or from within a call of its own.
    Begins { routine: u64, arguments: [u64; 4] },
    /// The routine returns.
    Ends(u64),
    /// Executes an instruction that the processor does not execute for it.
    Traps { instruction: &'static str, operands: [u64; 2] },
    /// Anything else.
    Notes(String),
}

/// The lines so far.
#[derive(Debug)]
pub(crate) struct Trace {
    last: VecDeque<Event>,
    digest: Digest,
    printed: bool,
}

/// FNV-1a.
#[derive(Clone, Copy, Debug)]
struct Digest(u64);

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self {
            last: VecDeque::new(),
            digest: Digest(0xCBF2_9CE4_8422_2325),
            printed: std::env::var_os(PRINT).is_some_and(|value| value != "0"),
        }
    }

    pub(crate) fn add(&mut self, event: Event) {
        event.hash(&mut self.digest);
        if self.printed {
            eprintln!("{event}");
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(event);
    }

    /// The same for two runs in which the same things happened.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    pub(crate) fn events(&self) -> &VecDeque<Event> {
        &self.last
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.last.iter().map(Event::to_string)
    }

    pub(crate) fn tail(&self) -> Vec<String> {
        self.last.iter().skip(self.last.len().saturating_sub(SHOWN)).map(Event::to_string).collect()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}.{} us ", self.time / 10, self.time % 10)?;
        match &self.who {
            Some(Actor { cpu, irql, name }) => write!(f, "cpu{cpu} irql {irql:<2} {name:<9} ")?,
            None => write!(f, "{:23}", "")?,
        }
        write!(f, "{}", self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls { export, arguments, count } => {
                write!(f, "{export}")?;
                list(f, &arguments[..usize::from(*count).min(4)], *count > 4)
            }
            Self::Gets(value) => write!(f, "  = {value:#x}"),
            Self::Begins { routine, arguments } => {
                write!(f, "-> {routine:#x}")?;
                list(f, arguments, false)
            }
            Self::Ends(value) => write!(f, "<- {value:#x}"),
            Self::Traps { instruction, operands } => {
                write!(f, "{instruction}")?;
                list(f, operands, false)
            }
            Self::Notes(text) => f.write_str(text),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, numbers: &[u64], more: bool) -> fmt::Result {
    let mut text: Vec<String> = numbers.iter().map(|number| format!("{number:#x}")).collect();
    if more {
        text.push("..".to_owned());
    }
    write!(f, "({})", text.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cpu::Id;

    /// An event, as line and digest.
    fn seen(event: Event) -> (String, u64) {
        let mut trace = Trace::new();
        trace.add(event);
        (trace.tail().concat(), trace.digest())
    }

    #[test]
    fn whatever_differs_is_seen_in_the_line_and_in_the_digest() {
        let who = Actor { cpu: 1, irql: 2, name: Name { kind: "dpc", id: Id(7) } };
        let call = |export, arguments, count| What::Calls { export, arguments, count };
        let event = |time, who, what| Event { time, who, what };
        let events = [
            event(12, Some(who), call("KeSetEvent", [1, 0, 0, 0], 3)),
            event(13, Some(who), call("KeSetEvent", [1, 0, 0, 0], 3)),
            event(12, None, call("KeSetEvent", [1, 0, 0, 0], 3)),
            event(12, Some(Actor { cpu: 2, ..who }), call("KeSetEvent", [1, 0, 0, 0], 3)),
            event(12, Some(Actor { irql: 3, ..who }), call("KeSetEvent", [1, 0, 0, 0], 3)),
            event(
                12,
                Some(Actor { name: Name { kind: "isr", id: Id(7) }, ..who }),
                call("KeSetEvent", [1, 0, 0, 0], 3),
            ),
            event(
                12,
                Some(Actor { name: Name { kind: "dpc", id: Id(8) }, ..who }),
                call("KeSetEvent", [1, 0, 0, 0], 3),
            ),
            event(12, Some(who), call("KeClearEvent", [1, 0, 0, 0], 3)),
            event(12, Some(who), call("KeSetEvent", [2, 0, 0, 0], 3)),
            event(12, Some(who), call("KeSetEvent", [1, 0, 0, 0], 1)),
            event(12, Some(who), What::Gets(1)),
            event(12, Some(who), What::Ends(1)),
            event(12, Some(who), What::Begins { routine: 1, arguments: [0; 4] }),
            event(12, Some(who), What::Traps { instruction: "cpuid", operands: [1, 0] }),
            event(12, Some(who), What::Notes("1".to_owned())),
        ];
        let count = events.len();
        let seen: Vec<_> = events.into_iter().map(seen).collect();
        let lines: BTreeSet<_> = seen.iter().map(|(line, _)| line).collect();
        let digests: BTreeSet<_> = seen.iter().map(|(_, digest)| digest).collect();
        assert_eq!((lines.len(), digests.len()), (count, count), "{lines:#?}");
        assert_eq!(seen[0].0, "     1.2 us cpu1 irql 2  dpc 7     KeSetEvent(0x1, 0x0, 0x0)");
    }
}
