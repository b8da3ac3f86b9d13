//! The developer commands of this repository, behind `cargo xtask`.
//!
//! A test that someone has to remember is a test that is not run. So one command sets up and runs every
//! level of tests, from formatting to model checking, and the CI runs that same command and nothing else.
//!
//! The modules, in reading order:
//!
//! - [`cli`]: what can be asked for;
//! - [`levels`]: the table of levels, which is the place to add one; [`run`] goes through it;
//! - [`host`]: the machine: where the repository is, what is installed, how to get the rest;
//! - [`command`]: one child process, shown before it runs;
//! - [`lints`], [`no_std`], [`miri`], [`mod@bench`]: the levels and commands that have a choice to make, two of
//!   them with `toolchain`;
//! - [`dist`]: builds the kernel images and holds them to the rules for drivers;
//! - [`mutants`]: weakens each atomic ordering of kexec and expects a loom model to notice;
//! - [`joints`]: breaks the driver, one step at a time, and expects a test of the simulated NT to notice;
//! - [`lab`]: boots a real Xen, and on it a guest of this project's code;
//! - [`architecture`]: the rules about who may depend on whom, which the test of that name applies;
//! - [`tasks`]: prints the tasks in a dump;
//! - [`tokens`]: Rust source as a flat list of tokens, for both of these.
#![forbid(unsafe_code)]

pub mod architecture;
pub mod bench;
pub mod cli;
pub mod command;
pub mod dist;
pub mod host;
pub mod joints;
pub mod lab;
pub mod levels;
pub mod lints;
pub mod miri;
pub mod mutants;
pub mod no_std;
pub mod run;
pub mod tasks;
pub mod tokens;
mod toolchain;
