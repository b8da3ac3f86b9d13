//! The guest's console, with the simulated daemon at its other end.
#![deny(unsafe_code)]

#[path = "../bitmaps/mod.rs"]
mod bitmaps;
mod driver;
mod enumeration;
mod errors;
mod interrupted;
mod streams;
mod waiting;

use kexec::{
    irql::Dispatch,
    platform::{
        mock::{Mock, Plan},
        thread::passive,
    },
};
use xen_abi::{
    hvm::params::HVM_PARAM_CONSOLE_PFN,
    io::console::{IN_CONS, IN_PROD, OUT_CONS, OUT_PROD},
    seam::{Access as _, Gfn},
};
use xen_sim::{Guest, GuestFrame};
use xenbus::hypercall::hvm;

/// More steps than anything takes here.
const ENOUGH: u64 = 100_000;

/// Does something at `DISPATCH_LEVEL`.
fn at_dispatch<T>(work: impl FnOnce(&Dispatch) -> T) -> T {
    passive(|level| level.raised(&Mock::<Dispatch>::new(Plan::CALM), |at| work(at)))
}

/// The page of a guest's console, behind the back of whoever uses it.
fn page(guest: &Guest) -> GuestFrame {
    guest.physical(Gfn(hvm::get_param(guest, HVM_PARAM_CONSOLE_PFN).expect("it is told")))
}

/// `in_cons`, `in_prod`, `out_cons` and `out_prod`.
fn indices(page: &GuestFrame) -> [u32; 4] {
    [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD].map(|index| page.load(index))
}

/// Says that so many bytes have gone through both rings before.
fn start_at(page: &GuestFrame, first: u32) {
    for index in [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD] {
        page.store(index, first);
    }
}
