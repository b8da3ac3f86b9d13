//! Suspend and resume, on a simulated Xen.

#[path = "../bitmaps/mod.rs"]
mod bitmaps;
#[path = "../bus/mod.rs"]
mod bus;
mod cpus;
mod enumeration;
mod listeners;
mod refused;
