//! Events, the mutex, the semaphore, and the queue that all of them have.
//!
//! In reading order: [`support`]; [`event`], [`mutex`] and [`semaphore`], what each one means; [`queue`], who is called
//! and when, and that nothing is lost with a wait that is dropped; [`interrupt`] and [`threads`], signals from elsewhere;
//! [`reference`], everything at random against a plain model.
#![cfg(feature = "std")]

mod event;
mod interrupt;
mod mutex;
mod queue;
#[cfg(not(miri))]
mod reference;
mod semaphore;
mod support;
mod threads;
