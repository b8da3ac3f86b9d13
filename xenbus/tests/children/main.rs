//! Devices that come and go, and whoever is told of it.
//!
//! - `scene`: a guest that follows the devices of a class, while a test is its toolstack;
//! - `told`: what is told, in which order, and what is not;
//! - `names`: names that are none, and more than there is room for;
//! - `lost`: suspends, and a xenstored that is no help;
//! - `enumeration`: all that can go wrong, at every poll boundary.
#![forbid(unsafe_code)]

#[path = "../bitmaps/mod.rs"]
mod bitmaps;
#[path = "../bus/mod.rs"]
mod bus;
mod enumeration;
mod lost;
mod names;
#[path = "../bus/once.rs"]
mod once;
mod scene;
mod told;
