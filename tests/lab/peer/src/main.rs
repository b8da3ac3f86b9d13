//! The other end of a guest's grants and event channels: a program of the lab's control domain.
//!
//! ```text
//! peer hold  DOMAIN PORT REF..         has the pages mapped, until it is killed or its input ends
//! peer storm DOMAIN PORT REF COUNT     notifies so many times, and waits for the guest to have seen the last
//! peer echo  DOMAIN PORT REF           answers each event, until it is killed or its input ends
//! ```
//!
//! PORT is one that the guest has allocated for the control domain, REF a page that it has granted to it for writing.
//! Xen sets an event pending at the end that binds: the guest is told of nothing by that alone.
//!
//! # In reading order
//!
//! - [`order`]: what was asked for;
//! - [`play`]: what each does with its pages, and what it expects of the guest;
//! - [`device`]: grants and event channels as Linux offers them to a program.
//!
//! It exits with 2 for a command line that makes no sense, and with 1 for whatever Linux, Xen or the guest has against it,
//! after one line which names that. Who is killed has unmapped nothing: Linux does, as for a backend that dies.
#![deny(unsafe_code)]

mod device;
mod order;
mod play;

use std::process::ExitCode;

use crate::order::Order;

/// The exit code for a command line that makes no sense, as with most command-line tools.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let order = match Order::parse(std::env::args().skip(1)) {
        Ok(order) => order,
        Err(message) => {
            eprintln!("peer: {message}");
            return ExitCode::from(USAGE);
        }
    };
    match play::carry_out(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
