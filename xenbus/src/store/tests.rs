//! The client against whatever the other end of the page does.
#![forbid(unsafe_code)]

mod answers;
mod connection;
mod crash;
mod daemon;
pub(super) mod freeze;
mod link;
mod watches;
