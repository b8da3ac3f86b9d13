//! Waiting for each other: events, a mutex, a semaphore.
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
//! In reading order: `waiters`, what all of them are made of; `event`; `mutex`; `semaphore`.
#![deny(unsafe_code)]

mod event;
mod mutex;
mod semaphore;
mod waiters;

pub use self::{
    event::{AutoEvent, ManualEvent},
    mutex::{Mutex, MutexGuard},
    semaphore::{AcquireError, Overfull, Permits, Semaphore, TryAcquireError},
    waiters::Wait,
};
