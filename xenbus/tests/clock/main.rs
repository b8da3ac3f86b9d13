//! Time as Xen tells it: the arithmetic, the page that Xen writes meanwhile, and a simulated host.
#![deny(unsafe_code)]

mod arithmetic;
mod simulated;
mod torn;

use kexec::{
    irql::Dispatch,
    platform::{
        mock::{Mock, Plan},
        thread::passive,
    },
};

/// Does something at `DISPATCH_LEVEL`.
fn at_dispatch<T>(work: impl FnOnce(&Dispatch) -> T) -> T {
    passive(|level| level.raised(&Mock::<Dispatch>::new(Plan::CALM), |at| work(at)))
}
