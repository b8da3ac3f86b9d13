//! The harness itself, and what `xenbus` makes of a xenstored that does not keep to its protocol.
#![forbid(unsafe_code)]

mod garbage;
mod player;
mod rig;
