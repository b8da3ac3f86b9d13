//! Suspend and resume, on a simulated Xen.

#[path = "../bus/mod.rs"]
mod bus;
mod cpus;
mod enumeration;
mod listeners;
mod refused;
