//! The unplug protocol and the logs of the host: on a simulated device model, and on ports at which anything may be.
#![deny(unsafe_code)]

mod log;
mod policy;
mod ports;
mod simulated;
