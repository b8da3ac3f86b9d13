//! The task table: where every task is parked, for a person, a debugger and a test.
//!
//! A leaf future is one that waits for something itself, and not for another future. Each leaf of this crate
//! notes in its task's record, whenever it parks, what [kind](Kind) it is and where in the source it was made;
//! [`label`](Label::label) adds what the step is about. A driver's own leaves do the same with a [`Leaf`].
//!
//! With the feature `table` off, all of this is nothing.

mod label;
mod leaf;
pub(crate) mod record;

pub use label::{Label, Labelled};
pub use leaf::{Kind, Leaf};
