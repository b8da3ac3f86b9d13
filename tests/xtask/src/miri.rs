//! Runs the tests for Miri, where a nightly toolchain has it.
//!
//! Only what is installed is used: `cargo miri setup` by itself would ask rustup for the library's
//! sources, so they are looked for first.

use std::path::Path;

use anyhow::Result;

use crate::{
    command::CommandLine,
    host::Host,
    levels::{Outcome, passed},
};

/// One way to run the tests.
struct Way {
    model: &'static str,
    /// How many schedules, and choices of what a relaxed load reads.
    seeds: u32,
    flags: &'static str,
}

/// Tree Borrows allows nearly all that Stacked Borrows does, so that a few seeds are enough there.
const WAYS: &[Way] = &[
    Way { model: "Stacked Borrows", seeds: 4, flags: "" },
    Way { model: "Tree Borrows", seeds: 1, flags: "-Zmiri-tree-borrows" },
];

/// What it interprets: kexec, the accesses to pages that somebody else writes to, and the cells that interrupts look into.
const TESTS: &[&str] = &[
    "--package kexec --all-features --test miri",
    "--package xen-abi --lib seam",
    "--package xenbus --lib cell",
];

/// Runs the tests under each model.
///
/// # Errors
///
/// A test fails.
pub fn run(host: &Host) -> Result<Outcome> {
    let missing = |what: &str| {
        let command = "rustup toolchain install nightly --component miri,rust-src";
        Ok(Outcome::Skipped(format!("{what} is missing; to get it: `{command}`")))
    };
    if !cargo(host).words("miri --version").succeeds() {
        return missing("Miri");
    }
    let sysroot = host.program("rustc").words("+nightly --print sysroot").without(OTHER_TOOLCHAIN).answer();
    let sources = sysroot.map(|path| Path::new(&path).join("lib/rustlib/src/rust/library/std"));
    if !sources.is_some_and(|path| path.is_dir()) {
        return missing("the library's source code, which Miri interprets,");
    }
    if let Err(error) = cargo(host).words("miri setup").run() {
        return Ok(Outcome::Skipped(format!("Miri's library does not build: {error:#}")));
    }
    let mut notes = Vec::new();
    for Way { model, seeds, flags } in WAYS {
        // The seeds run at the same time and talk into each other's lines: there is nothing to count.
        for tests in TESTS {
            cargo(host)
                .words(&format!("miri test {tests} --target-dir"))
                .path(&host.target().join("miri"))
                .set("MIRIFLAGS", &format!("-Zmiri-many-seeds=0..{seeds} {flags}"))
                .run()?;
        }
        notes.push(format!("{seeds} seeds under {model}"));
    }
    passed(notes.join(", "))
}

/// What the toolchain that runs us has set for itself.
const OTHER_TOOLCHAIN: &[&str] = &["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "LD_LIBRARY_PATH"];

/// Nightly's cargo, by way of the `cargo` on the path, which is rustup's if `+nightly` is to mean anything.
fn cargo(host: &Host) -> CommandLine {
    host.program("cargo").word("+nightly").without(OTHER_TOOLCHAIN)
}
