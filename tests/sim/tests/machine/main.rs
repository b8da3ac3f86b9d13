//! The machine around a guest, as a small guest sees it: the toolstack's store, devices and their backends, suspend, faults.
#![deny(unsafe_code)]

mod channel;
mod console;
mod devices;
mod faults;
mod frontend;
mod kernel;
mod ports;
mod processor;
mod protocol;
mod same;
mod shutdown;
mod states;
mod store;
mod suspend;
mod wire;
