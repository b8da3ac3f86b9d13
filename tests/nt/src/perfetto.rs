//! A run as a picture: Chrome's JSON trace format, which <https://ui.perfetto.dev> opens.
//!
//! One track for each CPU shows whose turn it was, at which IRQL; one for each context shows its calls of exports,
//! from the call to the answer, so that a wait is as long as it took.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::{self, Write},
    fs,
    path::Path,
};

use crate::{
    cpu::Name,
    trace::{Actor, Event, What},
};

/// The file that a run's picture goes to, when set. The last run of a process stays.
const FILE: &str = "NT_SIM_PERFETTO";

/// The two groups of tracks.
const CPUS: u32 = 1;
const CONTEXTS: u32 = 2;

/// Writes the picture, if somebody wants one.
pub(crate) fn write_if_wanted(events: &VecDeque<Event>) {
    if let Some(path) = std::env::var_os(FILE) {
        let path = Path::new(&path);
        fs::write(path, picture(events)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// What somebody does for a while, times in units of 100 ns.
struct Slice {
    begin: u64,
    end: u64,
    what: String,
}

/// The tracks so far.
#[derive(Default)]
struct Picture {
    text: String,
    /// The tracks that have a name.
    named: BTreeSet<(u32, u64)>,
    /// Whose turn it is, on each CPU.
    turns: BTreeMap<usize, Slice>,
    /// The call that each context is in.
    calls: BTreeMap<u64, Slice>,
}

fn picture(events: &VecDeque<Event>) -> String {
    let mut picture = Picture::default();
    picture.name("process_name", CPUS, 0, "CPUs");
    picture.name("process_name", CONTEXTS, 0, "threads, DPCs and ISRs");
    for event in events {
        if let Some(actor) = &event.who {
            picture.turn(event.time, actor);
            picture.call(event.time, actor.name, &event.what);
        }
    }
    // What the run has ended in the middle of.
    for (cpu, slice) in std::mem::take(&mut picture.turns) {
        picture.slice(CPUS, cpu as u64, &slice);
    }
    for (context, slice) in std::mem::take(&mut picture.calls) {
        picture.slice(CONTEXTS, context, &slice);
    }
    format!("[\n{}\n]\n", picture.text.trim_end_matches(",\n"))
}

impl Picture {
    /// A context has its CPU from its first event to its last one before another's.
    fn turn(&mut self, time: u64, Actor { cpu, irql, name }: &Actor) {
        let what = format!("{name}, IRQL {irql}");
        match self.turns.get_mut(cpu) {
            Some(slice) if slice.what == what => slice.end = time,
            _ => {
                self.track(CPUS, *cpu as u64, &format!("CPU {cpu}"));
                if let Some(before) = self.turns.insert(*cpu, Slice { begin: time, end: time, what }) {
                    self.slice(CPUS, *cpu as u64, &before);
                }
            }
        }
    }

    /// A call lasts until its answer.
    fn call(&mut self, time: u64, name: Name, what: &What) {
        let context = name.id.0;
        match what {
            What::Calls { .. } => {
                self.track(CONTEXTS, context, &name.to_string());
                self.calls.insert(context, Slice { begin: time, end: time, what: what.to_string() });
            }
            What::Gets(_) => {
                if let Some(slice) = self.calls.remove(&context) {
                    self.slice(CONTEXTS, context, &Slice { end: time, ..slice });
                }
            }
            What::Traps { .. } => {
                self.track(CONTEXTS, context, &name.to_string());
                self.slice(CONTEXTS, context, &Slice { begin: time, end: time, what: what.to_string() });
            }
            What::Begins { .. } | What::Ends(_) | What::Notes(_) => {}
        }
    }

    fn track(&mut self, group: u32, track: u64, name: &str) {
        if self.named.insert((group, track)) {
            self.name("thread_name", group, track, name);
        }
    }

    fn name(&mut self, what: &str, group: u32, track: u64, name: &str) {
        self.line(format_args!(
            r#"{{"ph":"M","name":"{what}","pid":{group},"tid":{track},"args":{{"name":"{name}"}}}}"#
        ));
    }

    /// Something of no length is shown as one unit long, or it could not be seen.
    fn slice(&mut self, group: u32, track: u64, Slice { begin, end, what }: &Slice) {
        let length = (end - begin).max(1);
        let (begin, length) = (Microseconds(*begin), Microseconds(length));
        self.line(format_args!(
            r#"{{"ph":"X","name":"{what}","pid":{group},"tid":{track},"ts":{begin},"dur":{length}}}"#
        ));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line},");
    }
}

/// Units of 100 ns, as the format has them.
struct Microseconds(u64);

impl fmt::Display for Microseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Id;

    /// A wait that begins on one CPU and ends on another is one slice of its thread, and two turns.
    #[test]
    fn a_wait_is_as_long_as_it_took() {
        let event = |time, cpu, what| {
            let name = Name { kind: "thread", id: Id(4) };
            Event { time, who: Some(Actor { cpu, irql: 0, name }), what }
        };
        let events = [
            event(10, 0, What::Calls { export: "KeWait", arguments: [7, 0, 0, 0], count: 1 }),
            event(75, 1, What::Gets(0)),
        ];
        let expected = r#"[
{"ph":"M","name":"process_name","pid":1,"tid":0,"args":{"name":"CPUs"}},
{"ph":"M","name":"process_name","pid":2,"tid":0,"args":{"name":"threads, DPCs and ISRs"}},
{"ph":"M","name":"thread_name","pid":1,"tid":0,"args":{"name":"CPU 0"}},
{"ph":"M","name":"thread_name","pid":2,"tid":4,"args":{"name":"thread 4"}},
{"ph":"M","name":"thread_name","pid":1,"tid":1,"args":{"name":"CPU 1"}},
{"ph":"X","name":"KeWait(0x7)","pid":2,"tid":4,"ts":1.0,"dur":6.5},
{"ph":"X","name":"thread 4, IRQL 0","pid":1,"tid":0,"ts":1.0,"dur":0.1},
{"ph":"X","name":"thread 4, IRQL 0","pid":1,"tid":1,"ts":7.5,"dur":0.1}
]
"#;
        assert_eq!(picture(&events.into()), expected);
    }
}
