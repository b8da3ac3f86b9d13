//! `probe.sys` in the simulated NT: what it does right passes, and each thing that it does wrong is found by name.
//!
//! - [`life`]: the scenario that all tests play;
//! - [`innocent`]: nothing is found where nothing is wrong, and a seed is a run;
//! - [`crimes`]: every check there is has been tripped;
//! - [`worlds`]: other hypervisors, an older Windows, a crash dump, a driver that never stops.
#![forbid(unsafe_code)]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod crimes;
mod innocent;
mod life;
mod worlds;
