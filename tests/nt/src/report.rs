//! Reports: what is written while a run goes on, and when it fails.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    cpu::{Context, Id, Name, State},
    kernel::Kernel,
    trace::{Actor, Event, What},
    verdict::{Failure, Finding, Report},
};

/// Places in images, by image and address: to find one out takes longer than a run.
static PLACES: Mutex<BTreeMap<(String, u64), String>> = Mutex::new(BTreeMap::new());

impl Kernel {
    /// Adds a line to the trace.
    pub(crate) fn note(&mut self, cpu: Option<usize>, what: What) {
        let who = cpu.and_then(|cpu| self.actor(cpu));
        self.trace.add(Event { time: self.now, who, what });
    }

    fn actor(&self, cpu: usize) -> Option<Actor> {
        let id = self.top(cpu)?;
        let context = self.context(id);
        Some(Actor { cpu, irql: context.irql, name: context.name(id) })
    }

    /// An error if the run has failed.
    pub(crate) fn alive(&self) -> Result<(), Failure> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// The run has failed. Whatever was found first stays the reason.
    pub(crate) fn fail(&mut self, finding: Finding, cpu: Option<usize>) -> Failure {
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        let Finding { verdict, facts, at } = finding;
        let time = format!("{}.{} us", self.now / 10, self.now % 10);
        let actor = cpu.and_then(|cpu| self.actor(cpu));
        let context = actor.map(|actor| self.context(actor.name.id));
        let at = at.or(context.map(|context| context.caller));
        let moment = match (actor, context) {
            (Some(Actor { cpu, irql, name }), Some(context)) => {
                format!("{name} ({}) on CPU {cpu} at IRQL {irql}, after {time}", context.purpose)
            }
            _ => format!("nobody in particular, after {time}"),
        };
        let report = Report {
            verdict,
            facts: self.with_places(&facts),
            place: at.and_then(|at| self.place(at)).unwrap_or_else(|| "no place in particular".to_owned()),
            run: self.options.to_string(),
            moment,
            tail: self.trace.tail().iter().map(|line| self.with_places(line)).collect(),
        };
        self.failure.insert(report.into()).clone()
    }

    /// What is at an address of an image.
    fn place(&self, address: u64) -> Option<String> {
        let image = self.memory.images.iter().find(|image| image.range().contains(&address))?;
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry((image.name().to_owned(), address)).or_insert_with(|| image.place(address));
        Some(place.clone())
    }

    /// Text in which the addresses of images are replaced by what is there.
    fn with_places(&self, text: &str) -> String {
        let mut result = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("0x") {
            let digits = rest[at + 2..].find(|digit: char| !digit.is_ascii_hexdigit());
            let end = digits.map_or(rest.len(), |length| at + 2 + length);
            result.push_str(&rest[..at]);
            let place = u64::from_str_radix(&rest[at + 2..end], 16).ok().and_then(|at| self.place(at));
            result.push_str(place.as_deref().unwrap_or(&rest[at..end]));
            rest = &rest[end..];
        }
        result + rest
    }

    /// Who waits for what, for a report.
    pub(crate) fn who_waits(&self) -> String {
        let mut lines: Vec<String> =
            self.contexts.iter().map(|(&id, context)| self.line(id, context)).collect();
        for (cpu, queue) in self.cpus.iter().enumerate().filter(|(_, cpu)| !cpu.dpcs.is_empty()) {
            lines.push(format!("CPU {cpu} has {} DPCs queued", queue.dpcs.len()));
        }
        if lines.is_empty() { "no driver code is running".to_owned() } else { lines.join("; ") }
    }

    fn line(&self, id: Id, context: &Context) -> String {
        let Name { kind, .. } = context.name(id);
        let state = match context.state {
            State::Ready => format!("goes on, {} calls so far", context.calls),
            State::Blocked(wait) => match self.owner_of(wait) {
                Some(owner) => format!("{wait}, whose owner is {owner}"),
                None => wait.to_string(),
            },
        };
        let cpu = context.cpu.map_or_else(String::new, |cpu| format!(" on CPU {cpu}"));
        format!("{kind} {} ({}){cpu} at {:#x} {state}", id.0, context.purpose, context.caller)
    }
}
