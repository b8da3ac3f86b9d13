//! All that tasks wait for each other with, and the queue that most of it has.
//!
//! In reading order: [`support`]; [`event`], [`mutex`] and [`semaphore`], what each one means; [`queue`], who is called
//! and when, and that nothing is lost with a wait that is dropped; [`interrupt`] and [`threads`], signals from elsewhere;
//! [`reference`], everything at random against a plain model. Then [`oneshot`], [`channel`] with its own
//! [reference](channel_reference), [`watch`] and [`rundown`], each with its meaning, its interrupts and its threads;
//! [`shared`], what they let through.
#![cfg(feature = "std")]

mod channel;
#[cfg(not(miri))]
mod channel_reference;
mod event;
mod interrupt;
mod mutex;
mod oneshot;
mod queue;
#[cfg(not(miri))]
mod reference;
mod rundown;
mod semaphore;
mod shared;
mod support;
mod threads;
mod watch;
