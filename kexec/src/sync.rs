//! Waiting for each other: events, locks, permits, values that are passed on, and the end of all use.
//!
//! Each of these can be a `static`, allocates nothing, and joins tasks of any executors with each other, with interrupts,
//! and with whatever else polls a future.
//!
//! | primitive | its signals | from | a wait that is dropped | uncontended |
//! |---|---|---|---|---|
//! | [`AutoEvent`] | [`set`](AutoEvent::set) | any level | loses its place | 1 to set, 1 to wait |
//! | [`ManualEvent`] | [`set`](ManualEvent::set) | any level | loses its place | 1 to set, 0 to wait |
//! | [`Mutex`] | drop of the guard | any level | loses its place | 1 to lock, 1 to unlock |
//! | [`Semaphore`] | drop of [`Permits`], [`release`](Semaphore::release), [`close`](Semaphore::close) | any level | loses its place | 1 to acquire, 1 to give back |
//! | [`oneshot`] | [`send`](oneshot::Sender::send), drop of the sender | any level | loses nothing | 1 to claim, 1 to send, 1 to receive |
//! | [`channel`] | [`try_send`](channel::Sender::try_send), drop of the last sender | any level | `recv` loses nothing | 1 to receive |
//! | | [`try_recv`](channel::Receiver::try_recv), [`close`](channel::Receiver::close), drop of the receiver | any level | `send` loses its place | 2 to send |
//! | [`Watch`] | [`send`](Watch::send), [`modify`](Watch::modify) | `DISPATCH_LEVEL` | loses nothing | 2 to send, 1 to get |
//! | [`RundownRef`] | drop of the last [`RundownGuard`] | any level | loses nothing | 1 to acquire, 1 to let go |
//! | [`SpinLock`] | drop of the guard | `DISPATCH_LEVEL` | spins, and is not dropped | 1 to lock, 0 to unlock |
//!
//! The last column counts atomic read-modify-writes. A wait that has to queue takes five altogether, its grant included; a
//! signal that finds somebody queued wakes one task.
//!
//! # Cancel safety
//!
//! What a future has lost that is dropped before it is ready, in three grades:
//!
//! - *nothing*: another one goes on where it was;
//! - *its place*: another one waits behind those who have come meanwhile, and counts from its own call. No signal, permit
//!   or value is lost with it, at whatever moment it is dropped: it goes to the next in the queue, or stays;
//! - *may have happened*: what it was to do may be done or not, and its documentation says how to find out.
//!
//! # Waiting
//!
//! Waits are polled and dropped up to `DISPATCH_LEVEL`. They are served in the order of their first polls, and a newcomer
//! takes nothing while somebody waits. So one that could go on and is not polled keeps those behind it waiting: drop a wait
//! that you do not go on polling.
//!
//! The queue is locked, for a few instructions, by polls and drops of its waits, and by nothing else. A task's executor
//! raises its CPU to `DISPATCH_LEVEL` meanwhile. Something else that polls a wait in a kernel sees to that itself, if the
//! waits at the same primitive are also polled or dropped by what may preempt it.
//!
//! A wait that is queued has the waker of its last poll, and a signal is a call of the first one's: both count where it is
//! said when memory may be given back, at [`Executor`](crate::Executor).
//!
//! In reading order: `waiters`, what all of them are made of; `event`; `mutex`; `semaphore`; [`oneshot`];
//! [`channel`]; `spin` and `watch`, the value behind such a lock; `rundown`.
#![deny(unsafe_code)]

pub mod channel;
mod event;
mod mutex;
pub mod oneshot;
mod rundown;
mod semaphore;
mod spin;
mod waiters;
mod watch;

pub use self::{
    event::{AutoEvent, ManualEvent},
    mutex::{Mutex, MutexGuard},
    rundown::{NotRunDown, RundownGuard, RundownRef},
    semaphore::{AcquireError, Overfull, Permits, Semaphore, TryAcquireError},
    spin::{SpinGuard, SpinLock},
    waiters::Wait,
    watch::{Changed, Values, Watch, Watcher},
};
