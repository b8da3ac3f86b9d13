//! A simulated Xen.
#![deny(unsafe_code)]
