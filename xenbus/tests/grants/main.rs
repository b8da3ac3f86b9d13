//! Grants, on a simulated Xen that checks each of them.
#![deny(unsafe_code)]

mod enumeration;
mod foreign;
mod loans;
mod model;
mod platform;
mod shares;
mod table;
mod world;
