//! A track: spans, and within the innermost of them what the task is doing.
//!
//! The format nests slices by their times alone. Spans of a task need not nest, for a task can have several futures; and
//! they begin and end in the middle of polls. So whatever lies over the point where a span begins or ends is cut there.
#![forbid(unsafe_code)]

use std::{
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::json::{Arguments, Arrow, Quoted, Text};
use crate::trace::{SpanId, Then};

type Members = Vec<(&'static str, String)>;

/// What goes on from a time.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    name: String,
    since: u64,
    arguments: Members,
    /// The arrow that ends here.
    arrow: Option<u64>,
    /// Not worth showing if it has no length and says nothing.
    brief: bool,
}

/// A track of the picture.
#[derive(Clone, Debug)]
pub(super) struct Track {
    process: usize,
    thread: usize,
    /// The latest time; nothing is shown before it, whatever a clock says.
    now: u64,
    /// The spans that have begun, the outermost first.
    spans: Vec<(SpanId, Slice)>,
    /// Ready, polled or parked; on another track, a run.
    doing: Option<Slice>,
    polled: bool,
    /// The task was queued while it was polled.
    again: bool,
    /// The arrow that leads to the next poll.
    arrow: Option<u64>,
}

impl Slice {
    pub(super) fn new(name: &str, since: u64, arguments: Members) -> Self {
        Self { name: name.into(), since, arguments, arrow: None, brief: false }
    }

    fn ready(since: u64, arguments: Members) -> Self {
        Self { brief: true, ..Self::new("ready", since, arguments) }
    }
}

impl Track {
    pub(super) fn new(process: usize, thread: usize) -> Self {
        let (spans, doing) = (Vec::new(), None);
        Self { process, thread, now: 0, spans, doing, polled: false, again: false, arrow: None }
    }

    pub(super) fn process(&self) -> usize {
        self.process
    }

    pub(super) fn thread(&self) -> usize {
        self.thread
    }

    /// A mark of no length.
    pub(super) fn mark(
        &mut self,
        text: &mut Text,
        time: u64,
        name: &str,
        arguments: &[(&'static str, String)],
    ) {
        self.pass(time);
        let (name, arguments) = (Quoted(name), Arguments(arguments));
        text.object('i', self.place(), self.now, format_args!(r#","s":"t","name":{name}{arguments}"#));
    }

    /// Something else goes on from now.
    pub(super) fn begin(&mut self, text: &mut Text, time: u64, slice: Slice) {
        self.leave(text, time, &[]);
        self.doing = Some(Slice { since: self.now, ..slice });
    }

    /// What went on has ended.
    pub(super) fn leave(&mut self, text: &mut Text, time: u64, arguments: &[(&'static str, String)]) {
        self.pass(time);
        if let Some(mut slice) = self.doing.take() {
            slice.arguments.extend_from_slice(arguments);
            self.show(text, &slice);
        }
    }

    /// The task was queued.
    pub(super) fn queue(&mut self, text: &mut Text, time: u64, arrow: Option<u64>) {
        self.arrow = arrow.or(self.arrow);
        if self.polled {
            self.again = true;
        } else {
            self.begin(text, time, Slice::ready(time, vec![]));
        }
    }

    pub(super) fn begin_poll(&mut self, text: &mut Text, time: u64) {
        let arrow = self.arrow.take();
        self.begin(text, time, Slice { arrow, ..Slice::new("poll", time, vec![]) });
        (self.polled, self.again) = (true, false);
    }

    pub(super) fn end_poll(&mut self, text: &mut Text, time: u64, then: &Then) {
        let next = match then {
            Then::Parked(parked) => {
                self.leave(text, time, &[]);
                let place = parked.to_string();
                Some(if self.again {
                    Slice::ready(time, vec![("parked", place)])
                } else {
                    Slice::new(&place, time, vec![])
                })
            }
            Then::Ended => {
                self.leave(text, time, &[("then", "ended".into())]);
                None
            }
            Then::Cancelled => {
                self.leave(text, time, &[("then", "cancelled".into())]);
                None
            }
        };
        self.polled = false;
        match next {
            Some(next) => self.begin(text, time, next),
            None => self.close_all(text),
        }
    }

    /// Another task is woken from here: an arrow begins.
    pub(super) fn wake(&mut self, text: &mut Text, time: u64, arrow: u64) {
        self.pass(time);
        text.slice(self.place(), (self.now, self.now), "wake", &[], Arrow::Begins(arrow));
    }

    pub(super) fn begin_span(&mut self, text: &mut Text, time: u64, id: SpanId, slice: Slice) {
        self.pass(time);
        self.interrupt(text);
        self.open(text, &slice);
        self.spans.push((id, slice));
    }

    pub(super) fn end_span(&mut self, text: &mut Text, time: u64, id: SpanId, end: &'static str) {
        self.pass(time);
        let Some(depth) = self.spans.iter().position(|(span, _)| *span == id) else { return };
        self.interrupt(text);
        let inner = self.spans.split_off(depth + 1);
        for _ in &inner {
            self.close(text, &[]);
        }
        self.close(text, &[("end", end.into())]);
        self.spans.pop();
        for (id, slice) in inner {
            self.open(text, &slice);
            self.spans.push((id, slice));
        }
    }

    /// The picture ends at this time.
    pub(super) fn end(mut self, text: &mut Text, time: u64) {
        self.leave(text, time, &[]);
        self.close_all(text);
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    fn place(&self) -> (usize, usize) {
        (self.process, self.thread)
    }

    fn pass(&mut self, time: u64) {
        self.now = self.now.max(time);
    }

    /// Shows what has been going on, which goes on behind this point.
    fn interrupt(&mut self, text: &mut Text) {
        if let Some(slice) = self.doing.clone().filter(|slice| slice.since != self.now) {
            self.show(text, &slice);
            self.doing = Some(Slice { since: self.now, arrow: None, brief: true, ..slice });
        }
    }

    /// Shows what has been going on.
    fn show(&self, text: &mut Text, slice: &Slice) {
        let Slice { name, since, arguments, arrow, brief } = slice;
        if !brief || *since != self.now || !arguments.is_empty() {
            let arrow = arrow.map_or(Arrow::None, Arrow::Ends);
            text.slice(self.place(), (*since, self.now), name, arguments, arrow);
        }
    }

    fn close_all(&mut self, text: &mut Text) {
        while self.spans.pop().is_some() {
            self.close(text, &[]);
        }
    }

    fn open(&self, text: &mut Text, slice: &Slice) {
        let (name, arguments) = (Quoted(&slice.name), Arguments(&slice.arguments));
        text.object('B', self.place(), self.now, format_args!(r#","name":{name}{arguments}"#));
    }

    fn close(&self, text: &mut Text, arguments: &[(&'static str, String)]) {
        let arguments = Arguments(arguments);
        text.object('E', self.place(), self.now, format_args!("{arguments}"));
    }
}
