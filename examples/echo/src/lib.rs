//! The smallest device there is: its frontend.
#![no_std]
#![deny(unsafe_code)]

mod frontend;

pub use frontend::{Connection, Echo, Error, Slot, Told};
