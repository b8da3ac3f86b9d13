//! The driver: a task for the ring, a task for each read, a task for a reset.
//!
//! This is the part that would be in a kernel: but for its locks and its executor's platform, nothing in it
//! knows of a host.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{LazyLock, Mutex, MutexGuard, OnceLock},
    task::{Context, Poll, Waker},
};

use kexec::{
    Budget, Executor, Pool, TaskRef, irql::Dispatch, platform::thread::Thread, request_size, task_size,
    yield_now,
};

use crate::{
    device::{Block, Disk, Request, Response, SLOTS, ring},
    port::Srb,
};

/// Room for the task of a read, and for the SRB that its epilogue completes.
pub(crate) const READ_SIZE: usize = request_size(&read, size_of::<Srb>());

pub(crate) static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
/// As many as the ring has room for: who has a task here has a place there.
pub(crate) static READS: Pool<READ_SIZE, SLOTS> = Pool::new();
/// The ring's task is a data task: it has its turn after the reads that are ready, and publishes in one batch
/// what they have asked for. As a control task it would go ahead of them, and notify the disk more often.
pub(crate) static RINGS: Pool<{ task_size(&serve_ring) }, 1> = Pool::new();
/// A reset is a control task: it goes ahead of all reads.
pub(crate) static RESETS: Pool<{ task_size(&reset) }, 1> = Pool::control();

/// Serves one read. It returns the outcome, and leaves the completion to the epilogue.
pub(crate) async fn read(at: &mut Dispatch, lba: u64) -> u64 {
    let block = request(at, lba).await;
    checksum(&block)
}

/// Serves the ring. Each wake, by the interrupt or by a read, is one visit; it never ends by itself.
pub(crate) async fn serve_ring(at: &mut Dispatch, (): ()) -> Infallible {
    poll_fn(|_cx| visit(at)).await
}

/// Aborts the reads that are outstanding, waits until they are gone, and sets the disk going with an empty ring.
pub(crate) async fn reset(_at: &mut Dispatch, outstanding: Vec<TaskRef>) -> u64 {
    let aborted = outstanding.iter().map(|read| u64::from(read.abort())).sum();
    while outstanding.iter().any(|read| read.is_live()) {
        yield_now().await;
    }
    let mut ring = ring();
    ring.requests.clear();
    ring.disk = Disk::Works;
    ring.notify();
    aborted
}

static RING_TASK: OnceLock<TaskRef> = OnceLock::new();

/// Starts the ring's task. Its name is what the interrupt wakes.
pub(crate) fn connect() -> TaskRef {
    let task = EXECUTOR.spawn(&RINGS, serve_ring, ()).expect("the pool has room for one");
    *RING_TASK.get_or_init(|| task.detach())
}

#[derive(Default)]
pub(crate) struct Queue {
    ids: u64,
    /// Requests that the next visit publishes.
    unsent: Vec<Request>,
    /// One for each read that has no answer yet.
    pub(crate) waiting: Vec<Waiting>,
    /// Wakes of the ring's task by reads, and of reads by the ring's task.
    pub(crate) wakes: u64,
}

pub(crate) struct Waiting {
    id: u64,
    waker: Option<Waker>,
    block: Option<Block>,
}

static QUEUE: LazyLock<Mutex<Queue>> = LazyLock::new(Mutex::default);

/// In a kernel, a spin lock that is held at `DISPATCH_LEVEL`. A wake takes no lock, so it may be under this one.
pub(crate) fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().expect("the driver does not panic")
}

/// Takes the responses, wakes the reads that wait for them, publishes what has been asked for since.
fn visit(_at: &Dispatch) -> Poll<Infallible> {
    let (queue, ring) = (&mut *queue(), &mut *ring());
    for Response { id, block } in ring.responses.drain(..) {
        // Matched, not trusted: who asked may have been cancelled.
        let Some(read) = queue.waiting.iter_mut().find(|read| read.id == id) else { continue };
        read.block = Some(block);
        if let Some(waker) = read.waker.take() {
            queue.wakes += 1;
            waker.wake();
        }
    }
    if !queue.unsent.is_empty() {
        ring.requests.append(&mut queue.unsent);
        ring.notify();
    }
    Poll::Pending
}

/// Asks the disk for a block.
fn request(_at: &Dispatch, lba: u64) -> Answer {
    let mut queue = queue();
    queue.ids += 1;
    let id = queue.ids;
    queue.unsent.push(Request { id, lba });
    queue.waiting.push(Waiting { id, waker: None, block: None });
    queue.wakes += 1;
    RING_TASK.get().expect("the driver is connected").wake();
    Answer { id }
}

/// The block that was asked for. When this is dropped, a request that is on the ring already stays there, and
/// its response finds nobody.
struct Answer {
    id: u64,
}

impl Future for Answer {
    type Output = Block;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Block> {
        let mut queue = queue();
        let read = queue.waiting.iter_mut().find(|read| read.id == self.id);
        let read = read.expect("it is there until the future is dropped");
        read.waker = Some(cx.waker().clone());
        read.block.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut queue = queue();
        queue.unsent.retain(|request| request.id != self.id);
        queue.waiting.retain(|read| read.id != self.id);
    }
}

pub(crate) fn checksum(block: &Block) -> u64 {
    block.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word))
}
