//! What guest and toolstack say to each other, on a simulated Xen.

#[path = "../bitmaps/mod.rs"]
mod bitmaps;
#[path = "../bus/mod.rs"]
mod bus;
mod drivers;
mod enumeration;
mod features;
#[path = "../bus/once.rs"]
mod once;
mod play;
mod requests;
