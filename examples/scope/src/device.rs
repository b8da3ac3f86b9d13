//! The device: its scopes, the tasks in them, and what each does when it is to end.
//!
//! ```text
//!     device ---- watch                       waits for news of the device
//!       |
//!       +-- connection ---- port              holds the event channel open
//!             |
//!             +-- queue 0 ---- ring           takes the responses
//!             |          +---- read, read..   one for each request
//!             +-- queue 1 ---- ring
//!                        +---- read, read..
//! ```
//!
//! Closing the device ends all of that in the opposite order of its making, each before the next is asked to: what is
//! newer may use what is older, to its last instruction.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};

use kexec::{
    Cancelled, Executor, JoinHandle, Scope, Spawner, Table, TaskRef,
    irql::Dispatch,
    platform::mock::{Mock, keep},
    shielded,
    sync::oneshot::{self, OneShot},
    task_table::Label,
    until_cancelled,
};

use crate::{
    backend::Ring,
    buffers::{BUFFERS, Buffer, Buffers},
    timeline::Timeline,
};

/// Room for any of the tasks.
pub(crate) type Slots = &'static Table<768>;

/// The scopes of a device, open and in nothing.
#[derive(Clone, Copy)]
pub(crate) struct Scopes {
    pub(crate) device: &'static Scope,
    pub(crate) connection: &'static Scope,
    pub(crate) queues: [&'static Scope; 2],
}

pub(crate) struct Device {
    scopes: Scopes,
    pub(crate) queues: [&'static Queue; 2],
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) books: Arc<Books>,
    pub(crate) timeline: Timeline,
    /// The tasks that nothing but the end of their scopes ends.
    pub(crate) servants: Vec<TaskRef>,
}

pub(crate) struct Queue {
    name: &'static str,
    pub(crate) ring: Ring,
    /// For each buffer, the slot of its answer. What is in it is as unique as the buffer is.
    answers: [OneShot<Buffer>; BUFFERS],
    /// For each buffer that is the backend's, where the answer goes.
    waiting: Mutex<BTreeMap<usize, oneshot::Sender<'static, Buffer>>>,
}

/// Of each request, by queue and number, with which outcomes it was completed.
#[derive(Default)]
pub(crate) struct Books(Mutex<BTreeMap<(&'static str, u64), Vec<Outcome>>>);

/// How a request was completed.
pub(crate) type Outcome = Result<(), Cancelled>;

impl Device {
    /// Builds the scopes and starts what is in them, and so many reads for each queue.
    pub(crate) fn start(executor: &'static Executor<Mock>, slots: Slots, scopes: Scopes, reads: u64) -> Self {
        let mut device = Self {
            scopes,
            queues: ["queue 0", "queue 1"].map(Queue::new),
            buffers: Buffers::new(),
            books: Arc::default(),
            timeline: Timeline::new(executor),
            servants: Vec::new(),
        };
        let within = executor.within(scopes.device);
        device.serve(within, slots, "watch");
        let within = within.nest(scopes.connection).expect("both are open");
        device.serve(within, slots, "port");
        let queues = [0, 1].map(|number| {
            let (queue, scope) = (device.queues[number], scopes.queues[number]);
            let within = within.nest(scope).expect("both are open");
            let ring = within.spawn(slots, serve_ring, (queue, device.timeline.clone()));
            device.servants.push(ring.expect("there are enough slots").detach());
            (queue, within)
        });
        for id in 0..reads {
            for (queue, within) in queues {
                device.read(within, slots, queue, id);
            }
        }
        device
    }

    /// Starts a task that has nothing to do but to say goodbye.
    fn serve(&mut self, within: Spawner<Mock>, slots: Slots, name: &'static str) {
        let task = within.spawn(slots, stay, (name, self.timeline.clone()));
        self.servants.push(task.expect("there are enough slots").detach());
    }

    /// Starts a request: its epilogue completes it, whatever has become of the task.
    fn read(&self, within: Spawner<Mock>, slots: Slots, queue: &'static Queue, id: u64) {
        let (books, timeline, name) = (self.books.clone(), self.timeline.clone(), queue.name);
        let epilogue = move |_: &mut Dispatch, outcome: Result<(), Cancelled>| {
            let how = if outcome.is_ok() { "read" } else { "cancelled" };
            timeline.say(name, format_args!("request {id} completed: {how}"));
            books.lock().entry((name, id)).or_default().push(outcome);
        };
        let begun = within.submit(slots, read, (queue, self.buffers.clone()), epilogue);
        begun.expect("there are enough slots");
    }

    /// Removes the device: closes its scope, in a task that is none of its members.
    pub(crate) fn remove(&self, executor: &'static Executor<Mock>, slots: Slots) -> JoinHandle<()> {
        let (device, timeline) = (self.scopes.device, self.timeline.clone());
        let remove = async move |_: &mut Dispatch, ()| {
            timeline.say("device", "removed: its scope is closed");
            device.close().expect("nobody else closes it").await;
            timeline.say("device", "gone");
        };
        executor.spawn(slots, remove, ()).expect("there are enough slots")
    }

    /// How many buffers the backends have.
    pub(crate) fn outstanding(&self) -> usize {
        self.queues.iter().map(|queue| queue.ring.outstanding()).sum()
    }
}

impl Queue {
    fn new(name: &'static str) -> &'static Self {
        let answers = [const { OneShot::new() }; BUFFERS];
        keep(Self { name, ring: Ring::new(), answers, waiting: Mutex::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<usize, oneshot::Sender<'static, Buffer>>> {
        self.waiting.lock().expect("nobody panics with it")
    }
}

impl Books {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<(&'static str, u64), Vec<Outcome>>> {
        self.0.lock().expect("nobody panics with it")
    }
}

/// A request. It may be dropped at any await and loses nothing: the buffer is free by then, or the backend's; that one
/// comes back to the ring's task, which finds that nobody waits for it.
async fn read(_: &mut Dispatch, (queue, buffers): (&'static Queue, Arc<Buffers>)) {
    let buffer = buffers.take().label("a free buffer").await;
    let number = buffer.number();
    let (reply, answer) = queue.answers[number].claim().expect("the buffer was free");
    queue.waiting().insert(number, reply);
    queue.ring.publish(buffer);
    let buffer = answer.label("the backend's answer").await.expect("the ring's task ends after the reads");
    // Here the block would be copied.
    drop(buffer);
}

/// The task of a ring: hands the buffers that come back to those who wait for them.
///
/// When it is to end, all reads have ended before it. Their buffers may still be the backend's, which writes to them:
/// so it stays until the last one is back. A future that is dropped could not do that; this section is shielded.
async fn serve_ring(_: &mut Dispatch, (queue, timeline): (&'static Queue, Timeline)) {
    shielded(async {
        let Err(Cancelled) = until_cancelled(async {
            loop {
                let buffer = queue.ring.response().await;
                let reply = queue.waiting().remove(&buffer.number()).expect("it was published with one");
                // If nobody waits for it any more, it comes back here, and is free.
                drop(reply.send(buffer));
            }
        })
        .await;
        let left = queue.ring.outstanding();
        timeline.say(queue.name, format_args!("ring is to end; the backend has {left} buffers"));
        while queue.ring.outstanding() != 0 {
            let buffer = queue.ring.response().label("the backend's last answers").await;
            timeline.say(queue.name, format_args!("buffer {} is back", buffer.number()));
        }
        timeline.say(queue.name, "ring has ended");
    })
    .await;
}

/// A task that is there until its scope is closed.
async fn stay(_: &mut Dispatch, (name, timeline): (&'static str, Timeline)) {
    struct Farewell(&'static str, Timeline);
    impl Drop for Farewell {
        fn drop(&mut self) {
            self.1.say(self.0, "has ended");
        }
    }
    let _farewell = Farewell(name, timeline);
    pending::<()>().await;
}
