//! A run as a picture: Chrome's JSON trace format, which <https://ui.perfetto.dev> opens.
//!
//! Each executor is a process with a track for its runs and doorbells, and a track for each of its tasks:
//!
//! ```text
//! connect #1   |ready|poll|  store reply at src/store.rs:40:9 "state"  |ready|poll|
//!                         \- an arrow from the poll that woke it to the one that followed
//! ```
//!
//! Spans lie over the polls and waits of their task; where one begins or ends in the middle of a poll, or two overlap that
//! a task has at the same time, they are cut, so that slices nest. Events are marks on the task that emitted them. What
//! comes from outside of any task is on a track for its thread.
//!
//! Processes, threads and tasks are numbered as they come, so that a run that is repeated gives the same bytes.
#![forbid(unsafe_code)]
#![expect(clippy::arithmetic_side_effects, reason = "for hosts, where overflow shows as a failure")]

use std::{
    collections::HashMap,
    format, fs, io,
    path::Path,
    string::{String, ToString},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, ThreadId},
    vec,
    vec::Vec,
};

use self::{
    json::Text,
    track::{Slice, Track},
};
use super::{Activity, Change, Event, ExecutorId, Sink, SpanId, Stage, Task, Then, What};
use crate::{TaskRef, time::Instant};

mod json;
mod track;

/// A sink that keeps everything, to be [saved](Self::save) as a picture.
///
/// ```
/// use kexec::trace::{self, Output, Perfetto};
///
/// static PICTURE: Perfetto = Perfetto::new();
/// static OUTPUT: Output = Output::new(&PICTURE);
///
/// trace::set_output(Some(&OUTPUT));
/// // For each executor that is to be seen: `executor.trace_tasks(true)`.
/// kexec::info!("seen");
/// assert!(PICTURE.json().contains("seen"));
/// # trace::set_output(None);
/// ```
#[derive(Debug)]
pub struct Perfetto(OnceLock<Mutex<Picture>>);

/// The tracks so far.
#[derive(Debug, Default)]
struct Picture {
    text: Text,
    tracks: Vec<Track>,
    executors: HashMap<ExecutorId, Executor>,
    /// Tasks that have not ended.
    tasks: HashMap<TaskRef, usize>,
    threads: HashMap<ThreadId, Thread>,
    /// Spans that have not ended, and their tracks.
    spans: HashMap<SpanId, usize>,
    /// How many arrows were drawn.
    arrows: u64,
    /// The latest time of all, for what has none.
    latest: u64,
}

/// What is known of an executor.
#[derive(Clone, Copy, Debug)]
struct Executor {
    process: usize,
    track: usize,
    /// The run that goes on.
    run: Option<u64>,
}

/// What is known of a thread.
#[derive(Debug)]
struct Thread {
    /// The tasks that it is polling, each from within the one before.
    polls: Vec<usize>,
    /// The track for what comes from outside of tasks, if anything has.
    track: Option<usize>,
}

/// The process of what belongs to no executor.
const OUTSIDE: usize = 0;

impl Perfetto {
    /// An empty picture, for a `static`.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The picture so far. What has not ended ends now.
    #[must_use]
    pub fn json(&self) -> String {
        self.picture().json()
    }

    /// Writes the picture so far to a file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, file: impl AsRef<Path>) -> io::Result<()> {
        fs::write(file, self.json())
    }

    /// The picture is as it should be after each line, whoever panicked.
    fn picture(&self) -> MutexGuard<'_, Picture> {
        self.0.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Perfetto {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for Perfetto {
    fn event(&self, event: &Event<'_>) {
        // Formatted before the lock is taken: the message is the caller's code.
        let message = event.message().to_string();
        self.picture().event(event, &message);
    }

    fn span(&self, change: &Change) {
        self.picture().span(change);
    }

    fn activity(&self, activity: &Activity) {
        self.picture().activity(activity);
    }
}

impl Picture {
    fn json(&self) -> String {
        let mut text = self.text.clone();
        // The tracks of a process have one clock.
        let mut ends = HashMap::new();
        for track in &self.tracks {
            let end = ends.entry(track.process()).or_insert(0);
            *end = track.now().max(*end);
        }
        for track in &self.tracks {
            track.clone().end(&mut text, ends.get(&track.process()).copied().unwrap_or(0));
        }
        text.close()
    }

    fn event(&mut self, event: &Event<'_>, message: &str) {
        let track = self.here();
        let time = self.date(event.time());
        let site = event.site();
        let mut arguments = vec![
            ("level", event.level().to_string()),
            ("module", site.module().to_string()),
            ("place", format!("{}:{}", site.file(), site.line())),
        ];
        if event.suppressed() != 0 {
            arguments.push(("suppressed", event.suppressed().to_string()));
        }
        self.at(track, |track, text| track.mark(text, time, message, &arguments));
    }

    fn span(&mut self, change: &Change) {
        let time = self.date(change.time());
        match change.stage() {
            Stage::Began => {
                let site = change.site();
                let known = change.task().and_then(|task| self.tasks.get(&task).copied());
                let track = known.unwrap_or_else(|| self.here());
                self.spans.insert(change.id(), track);
                let place = ("place", format!("{}:{}", site.file(), site.line()));
                let slice = Slice::new(change.name(), time, vec![place]);
                self.at(track, |track, text| track.begin_span(text, time, change.id(), slice));
            }
            stage => {
                if let Some(track) = self.spans.remove(&change.id()) {
                    let end = if stage == Stage::Dropped { "dropped" } else { "completed" };
                    self.at(track, |track, text| track.end_span(text, time, change.id(), end));
                }
            }
        }
    }

    fn activity(&mut self, Activity { executor: id, time, what }: &Activity) {
        let time = self.date(Some(*time));
        let executor = self.executor(*id);
        match what {
            What::RunBegan { run } => {
                self.at(executor.track, |track, text| {
                    track.begin(text, time, Slice::new("run", time, vec![]));
                });
                self.executors.insert(*id, Executor { run: Some(*run), ..executor });
            }
            What::RunEnded { run, polls, end } if executor.run == Some(*run) => {
                let arguments = [("polls", polls.to_string()), ("end", format!("{end:?}"))];
                self.at(executor.track, |track, text| track.leave(text, time, &arguments));
                self.executors.insert(*id, Executor { run: None, ..executor });
            }
            // The next run has begun on another CPU.
            What::RunEnded { .. } => {}
            What::Rang => self.at(executor.track, |track, text| track.mark(text, time, "doorbell", &[])),
            What::Spawned(task) => {
                let track = self.track_of(executor.process, task);
                let place = task.site.map(|site| ("place", format!("{}:{}", site.file(), site.line())));
                self.at(track, |track, text| track.mark(text, time, "spawned", place.as_slice()));
                self.queued(track, time);
            }
            What::Woken(task) => {
                let track = self.track_of(executor.process, task);
                self.queued(track, time);
            }
            What::PollBegan(task) => {
                let track = self.track_of(executor.process, task);
                self.at(track, |track, text| track.begin_poll(text, time));
                self.thread().polls.push(track);
            }
            What::PollEnded { task, then, .. } => {
                let track = self.track_of(executor.process, task);
                self.at(track, |track, text| track.end_poll(text, time, then));
                self.thread().polls.pop();
                if !matches!(then, Then::Parked(_)) {
                    self.tasks.remove(&task.task);
                }
            }
        }
    }

    /// A task was queued, by whatever this thread is doing.
    fn queued(&mut self, track: usize, time: u64) {
        let waker = self.thread().polls.last().copied();
        let arrow = waker.filter(|waker| *waker != track).map(|waker| {
            self.arrows += 1;
            let arrow = self.arrows;
            self.at(waker, |waker, text| waker.wake(text, time, arrow));
            arrow
        });
        self.at(track, |track, text| track.queue(text, time, arrow));
    }

    /// Calls `f` with a track and the text.
    fn at(&mut self, track: usize, f: impl FnOnce(&mut Track, &mut Text)) {
        if let Some(track) = self.tracks.get_mut(track) {
            f(track, &mut self.text);
        }
    }

    /// The time in nanoseconds.
    fn date(&mut self, time: Option<Instant>) -> u64 {
        if let Some(time) = time {
            self.latest = time.as_nanos();
        }
        self.latest
    }

    fn thread(&mut self) -> &mut Thread {
        self.threads.entry(thread::current().id()).or_insert(Thread { polls: Vec::new(), track: None })
    }

    /// The track of what this thread is doing.
    fn here(&mut self) -> usize {
        let thread = self.thread();
        if let Some(track) = thread.polls.last().copied().or(thread.track) {
            return track;
        }
        let number = self.threads.values().filter(|thread| thread.track.is_some()).count() + 1;
        if number == 1 {
            self.text.name_process(OUTSIDE, "outside of tasks");
        }
        let track = self.new_track(OUTSIDE, &format!("thread {number}"));
        self.thread().track = Some(track);
        track
    }

    fn executor(&mut self, id: ExecutorId) -> Executor {
        if let Some(executor) = self.executors.get(&id) {
            return *executor;
        }
        let process = self.executors.len() + 1;
        self.text.name_process(process, &format!("executor {process}"));
        let executor = Executor { process, track: self.new_track(process, "runs"), run: None };
        self.executors.insert(id, executor);
        executor
    }

    fn track_of(&mut self, process: usize, task: &Task) -> usize {
        if let Some(track) = self.tasks.get(&task.task) {
            return *track;
        }
        let name = format!("{} #{}", task.name.unwrap_or("task"), task.task.generation());
        let track = self.new_track(process, &name);
        self.tasks.insert(task.task, track);
        track
    }

    /// Threads are told apart by their number alone, whatever their process.
    fn new_track(&mut self, process: usize, name: &str) -> usize {
        let index = self.tracks.len();
        let track = Track::new(process, index + 1);
        self.text.name_thread(track.process(), track.thread(), name);
        self.tracks.push(track);
        index
    }
}
