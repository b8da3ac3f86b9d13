//! The part of the NT kernel's ABI that the drivers use, under the names of `wdk-sys`.
//!
//! Only what is used is here. Functions, types and fields have the names that `wdk-sys` gives them, those of
//! its anonymous unions included; what no driver touches in a structure is an opaque field of the right size.
//!
//! - [`basic`]: integers, strings, lists, handles, statuses;
//! - [`ke`]: DPCs, events, timers, threads;
//! - [`io`]: drivers, devices, IRPs, interrupts, remove locks, the registry;
//! - [`ntddk`]: the functions that `ntoskrnl.exe` and `hal.dll` export;
//! - [`layout`]: size and offset of everything above, asserted when this crate is compiled.
//!
//! Sources: `wdm.h` and `ntddk.h` as documented at learn.microsoft.com (each item's page is titled by its name).
//! `tests/mingw` compares layouts, constants, types, prototypes and exports with mingw-w64's DDK headers and import
//! libraries. The feature `wdk` compares the layouts with `wdk-sys`, on a Windows host that has the WDK; that has
//! not been run.
//!
//! The oldest Windows is 10, version 1809. The `.def` files beside this crate name what its kernel exports and we
//! use; nothing else links.
#![no_std]
#![deny(unsafe_code)]
#![expect(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    missing_docs,
    missing_debug_implementations,
    clippy::pub_underscore_fields,
    clippy::use_self,
    reason = "the names are those of the Windows headers, where they are documented"
)]

pub mod basic;
pub mod io;
pub mod ke;
pub mod layout;
pub mod ntddk;

pub use basic::*;
pub use io::*;
pub use ke::*;
