//! The client against whatever the other end of the page does.
#![forbid(unsafe_code)]

pub(super) mod freeze;
mod link;
