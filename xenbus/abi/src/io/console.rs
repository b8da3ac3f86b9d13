//! `io/console.h`: the guest's console, a page with two rings of bytes.
//!
//! Indices count all bytes that ever were: byte _i_ is at _i_ modulo the ring's size. What is there lies from the
//! consumer's index to the producer's; who writes makes the other pending in the port of the console.
#![forbid(unsafe_code)]

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::seam::{Place, Places};

/// Bytes of [`XenconsInterface::in`](XenconsInterface).
pub const IN_SIZE: usize = 1024;
/// Bytes of [`XenconsInterface::out`].
pub const OUT_SIZE: usize = 2048;

/// `struct xencons_interface`: the page.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct XenconsInterface {
    /// To the guest.
    pub r#in: [u8; IN_SIZE],
    /// From the guest.
    pub out: [u8; OUT_SIZE],
    /// How much of `in` the guest has read. Written by the guest.
    pub in_cons: u32,
    /// How much of `in` was written. Written by the backend.
    pub in_prod: u32,
    /// How much of `out` was read. Written by the backend.
    pub out_cons: u32,
    /// How much of `out` the guest has written. Written by the guest.
    pub out_prod: u32,
}

const _: () = assert!(size_of::<XenconsInterface>() == 0xC10);

/// The bytes of [`XenconsInterface::in`](XenconsInterface).
pub const IN: Places<u8> = Places::new(offset_of!(XenconsInterface, r#in), 1, IN_SIZE);
/// The bytes of [`XenconsInterface::out`].
pub const OUT: Places<u8> = Places::new(offset_of!(XenconsInterface, out), 1, OUT_SIZE);
/// See [`XenconsInterface::in_cons`].
pub const IN_CONS: Place<u32> = Place::new(offset_of!(XenconsInterface, in_cons));
/// See [`XenconsInterface::in_prod`].
pub const IN_PROD: Place<u32> = Place::new(offset_of!(XenconsInterface, in_prod));
/// See [`XenconsInterface::out_cons`].
pub const OUT_CONS: Place<u32> = Place::new(offset_of!(XenconsInterface, out_cons));
/// See [`XenconsInterface::out_prod`].
pub const OUT_PROD: Place<u32> = Place::new(offset_of!(XenconsInterface, out_prod));
