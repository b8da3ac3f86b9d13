//! The way into an executor: a transfer stack whose head also says who consumes it.
//!
//! ```text
//!                 push: ring                 claim                    park
//!     PARKED ------------------> tasks ---------------> ACTIVE tasks* ------> PARKED
//!                                  ^                       |    |
//!                                  +---- LEFT tasks* <-----+    +-----------> CLOSED
//!                                   claim      hand back, then ring   shut
//! ```
//!
//! - A push is one compare-exchange; a take is one swap of everything that is there. Between the two no
//!   producer can leave the stack in a state in which another must wait for it, as a linked queue
//!   would be when the thread that appends to it is preempted half-way.
//! - Only the push that finds the executor `PARKED` rings. While it is `ACTIVE` the consumer finds the push
//!   before it parks; once rung, and while a consumer that has used up its budget leaves work behind
//!   (`LEFT`), a doorbell is on its way already.
//! - `ACTIVE` survives in the head while tasks are pushed, so that a second doorbell makes no second consumer.
//! - Who is turned away for that leaves `REFUSED` in the head, until the next take: what he came for may be a timer,
//!   and the consumer, which then cannot park, looks at the timers again.
#![expect(
    unsafe_code,
    reason = "a task's link is owned by whoever set QUEUED, and an address stands for the task"
)]

use core::{
    ptr,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};

use crate::{
    atomics::{AtomicPtr, const_fn},
    task::{Header, Link, Task},
};

/// A consumer is at work.
const ACTIVE: usize = 1;
/// Nobody is at work, but a doorbell is on its way.
const LEFT: usize = 1 << 1;
/// Nobody will ever be at work again. No task is ever pushed onto this.
const CLOSED: usize = ACTIVE | LEFT;
/// Beside `ACTIVE`: somebody else wanted to be the consumer.
const REFUSED: usize = 1 << 2;
const FLAGS: usize = ACTIVE | LEFT | REFUSED;

const _: () = assert!(align_of::<Header>() > FLAGS, "the flags lie below a header's address");

/// The head of the stack: a task's address, and the flags in its low bits.
#[derive(Debug)]
pub(crate) struct Queue(AtomicPtr<Header>);

/// What a push found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Nobody was there: ring.
    Parked,
    /// Someone is at work or on the way.
    Awake,
    /// The executor is closed; the task was not pushed.
    Closed,
}

fn flags(head: *mut Header) -> usize {
    head.addr() & FLAGS
}

const fn nobody(flags: usize) -> *mut Header {
    ptr::without_provenance_mut(flags)
}

/// The newest task on the stack; `next` leads to the older ones.
#[inline]
fn newest(head: *mut Header) -> Link {
    // SAFETY: what is not null and not a flag is the address of a task, put there by a push.
    unsafe { Link::new(head.map_addr(|address| address & !FLAGS)) }
}

impl Queue {
    const_fn! {
        /// A parked queue.
        pub(crate) fn new() -> Self {
            Self(AtomicPtr::new(nobody(0)))
        }
    }

    /// Puts a task on top, whose `QUEUED` the caller has set.
    ///
    /// Release, for the task's `next` and, at its first push, for everything in its slot.
    ///
    /// # Safety
    ///
    /// The caller has set the task's `QUEUED`, and has not pushed it since.
    #[inline]
    pub(crate) unsafe fn push(&self, task: Task) -> Pushed {
        let mut head = self.0.load(Relaxed);
        loop {
            if head.addr() == CLOSED {
                return Pushed::Closed;
            }
            // SAFETY: who set `QUEUED` owns the link until the push.
            unsafe { task.header().next.write(newest(head)) };
            let top = task.as_ptr().wrapping_byte_add(flags(head));
            match self.0.compare_exchange_weak(head, top, Release, Relaxed) {
                Ok(_) if head.is_null() => return Pushed::Parked,
                Ok(_) => return Pushed::Awake,
                Err(now) => head = now,
            }
        }
    }

    /// Becomes the consumer and takes what is there, unless there is a consumer. The newest comes first.
    ///
    /// Acquire, for the tasks, and for what the last consumer left behind, perhaps on another CPU.
    #[inline]
    pub(crate) fn claim(&self) -> Option<Link> {
        let mut head = self.0.load(Relaxed);
        loop {
            if flags(head) & ACTIVE != 0 {
                head = self.refuse(head)?;
                continue;
            }
            match self.0.compare_exchange_weak(head, nobody(ACTIVE), Acquire, Relaxed) {
                // SAFETY: without a consumer there is nothing but a task's address and `LEFT`.
                Ok(_) => return Some(unsafe { Link::new(head.map_addr(|address| address & !LEFT)) }),
                Err(now) => head = now,
            }
        }
    }

    /// Tells the consumer that somebody was there; none once that is done. The head, if it has changed.
    ///
    /// By a read-modify-write, because a doorbell need not be ordered after what its ringer saw. Release, so that the
    /// consumer sees whatever the caller came for, such as an alarm that has gone off.
    #[cold]
    fn refuse(&self, head: *mut Header) -> Option<*mut Header> {
        if flags(head) == CLOSED {
            return None;
        }
        let refused = head.map_addr(|address| address | REFUSED);
        self.0.compare_exchange(head, refused, Release, Relaxed).err()
    }

    /// Whether something has been pushed, or somebody refused, since the consumer last took. May be late.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.0.load(Relaxed).addr() != ACTIVE
    }

    /// Whether there is a consumer. May be late, but not for the consumer itself.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        flags(self.0.load(Relaxed)) & ACTIVE != 0
    }

    /// Takes what was pushed since. For the consumer.
    #[inline]
    pub(crate) fn take(&self) -> Link {
        newest(self.0.swap(nobody(ACTIVE), Acquire))
    }

    /// Ceases to be the consumer; false if something was pushed or somebody refused, and nothing has changed. For the
    /// consumer.
    ///
    /// Release: the next consumer may run on another CPU.
    #[inline]
    pub(crate) fn park(&self) -> bool {
        self.0.compare_exchange(nobody(ACTIVE), nobody(0), Release, Relaxed).is_ok()
    }

    /// Like [`park`](Self::park), for ever.
    ///
    /// Release: whoever finds it so may free everything.
    pub(crate) fn shut(&self) -> bool {
        self.0.compare_exchange(nobody(ACTIVE), nobody(CLOSED), Release, Relaxed).is_ok()
    }

    /// Ceases to be the consumer with work left; the caller rings. For the consumer.
    ///
    /// Release: as for `park`.
    pub(crate) fn hand_back(&self) {
        let mut head = self.0.load(Relaxed);
        while let Err(now) = self.0.compare_exchange_weak(
            head,
            head.map_addr(|address| address & !FLAGS | LEFT),
            Release,
            Relaxed,
        ) {
            head = now;
        }
    }

    /// Whether the executor is closed.
    ///
    /// Acquire: whoever finds it so may give memory back that the last consumer used.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Acquire).addr() == CLOSED
    }
}
