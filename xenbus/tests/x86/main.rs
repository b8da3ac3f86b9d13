//! Xen is found: on processors that are made up, on simulated ones, and not where there is none.
#![deny(unsafe_code)]

mod made_up;
#[cfg(target_arch = "x86_64")]
mod native;
mod search;
mod simulated;
