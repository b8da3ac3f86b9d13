//! Event channels on a simulated Xen.
#![deny(unsafe_code)]

mod growth;
mod life;
mod ping_pong;
mod priorities;
mod refused;
mod storm;
mod support;
mod vcpus;
