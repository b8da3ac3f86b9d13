//! Waiting for each other: events, a mutex, a semaphore.
//!
//! In reading order: [`waiters`], what all of them are made of; [`event`]; [`mutex`]; [`semaphore`].
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
