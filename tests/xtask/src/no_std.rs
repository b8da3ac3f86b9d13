//! Builds the portable packages for a target that has no std.
//!
//! A host build proves nothing here: a dependency that quietly needs std compiles there. One package at
//! a time, because cargo would otherwise turn on a feature for one package that another one asked for.

use anyhow::{Context, Result};

use crate::{
    host::{Host, Need, Rustup},
    levels::{Outcome, passed},
    toolchain::{PACKAGES as TOOLCHAIN_PACKAGES, Target},
};

/// The packages that must build.
pub(crate) const PACKAGES: &[&str] = &["kexec", "nt-sys", "kexec-nt", "xen-abi", "xenbus", "xenstore-suite"];

/// An x86-64 target without an operating system, as near to a kernel as the compiler's own targets come.
pub(crate) const TARGET: Target = Target { triple: "x86_64-unknown-none", choice: "XTASK_NO_STD" };

/// What the level needs.
pub const TOOLCHAIN: Need = Need {
    what: "a Rust toolchain that can build for x86_64-unknown-none",
    packages: TOOLCHAIN_PACKAGES,
    rustup: Some(Rustup::Target(TARGET.triple)),
    present: |host| TARGET.is_there(host),
};

/// Builds each of the packages.
///
/// # Errors
///
/// One does not build, or the override makes no sense.
pub fn run(host: &Host) -> Result<Outcome> {
    let toolchain = TARGET.toolchain(host)?.with_context(|| format!("{} is missing", TOOLCHAIN.what))?;
    for package in PACKAGES {
        toolchain
            .cargo(host.root(), "build")
            .words("--target-dir")
            .path(&host.target().join("no_std"))
            .words("--target")
            .word(TARGET.triple)
            .words("--no-default-features --package")
            .word(package)
            .run()?;
    }
    passed(format_args!("{} with {}", PACKAGES.join(", "), toolchain.origin()))
}
