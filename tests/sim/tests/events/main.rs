//! Event channels, virtual CPUs, interrupts and time, as a guest sees them.
#![deny(unsafe_code)]

mod bindings;
mod channels;
mod clocks;
mod faults;
mod fifo;
mod fifo_model;
mod parameters;
mod scheduling;
mod support;
mod two_level;
mod upcalls;
mod vcpus;
mod versions;
