#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![expect(
    clippy::result_large_err,
    reason = "a difference is told once, and there is no memory that it could be put into"
)]

mod case;
mod difference;
mod ground;
mod profile;
pub mod store;
pub mod wire;

pub use self::{
    difference::{Difference, Told},
    ground::{Ground, ROOM},
    profile::{Conflicts, NodeSize, Profile, Quota},
    store::{CASES, Case},
};
