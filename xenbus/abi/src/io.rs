//! `io/*.h`: what the two halves of a device say to one another, once Xen has made memory and events for them.
//!
//! - [`xenbus`]: the states that both halves go through;
//! - [`protocols`]: which layout is spoken;
//! - [`ring`]: requests and responses in shared pages;
//! - [`blkif`]: a disk;
//! - [`netif`]: a NIC;
//! - [`console`]: the guest's console;
//! - [`xs_wire`]: the messages of xenstore.
#![forbid(unsafe_code)]

pub mod blkif;
pub mod console;
pub mod netif;
pub mod protocols;
pub mod ring;
pub mod xenbus;
pub mod xs_wire;
