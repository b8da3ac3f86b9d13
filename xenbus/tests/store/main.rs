//! The xenstore client on a simulated Xen, with every fault at every poll boundary.
//!
//! - `world`: a driver that connects, does something, and lets go of everything;
//! - one module for what it does: `nodes`, `transactions`, `watches`, `lists`;
//! - `crash`: another client comes after the first.
#![forbid(unsafe_code)]

#[path = "../bitmaps/mod.rs"]
mod bitmaps;
mod crash;
mod lists;
mod nodes;
mod transactions;
mod watches;
mod world;
