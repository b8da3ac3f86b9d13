#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod evtchn_fifo;
pub mod gnttab;
pub mod hypercall_args;
mod seeds;
pub mod xenbus_state;
pub mod xs_wire;
mod xs_wire_server;

pub use evtchn_fifo::evtchn_fifo;
pub use gnttab::gnttab;
pub use hypercall_args::hypercall_args;
pub use seeds::{mutated, seeded};
pub use xenbus_state::xenbus_state;
pub use xs_wire::xs_wire;
pub use xs_wire_server::{Action, Kind, Part, Tx, script, xs_wire_server};
