//! Benchmarks that compare kexec with what else one could use, in the same run, on the same machine.
//!
//! An absolute figure from one machine says little about another, so nothing here is compared with a
//! figure from a file: the peers are measured beside kexec, and the report gives ratios. What is
//! compared are mostly not times but *instructions* and *locked read-modify-writes*, which callgrind
//! counts exactly and repeatably; on a shared machine a time is only an indication.
//!
//! A bench binary plays two roles. Started by a person it is the parent: it starts itself again for
//! each peer and case, once natively and once under callgrind, subtracts the run of `n` operations from
//! the run of `2n` so that start-up and set-up cancel, and reports. Started by the parent it is the
//! child: it performs the operations and says what it saw.
//!
//! In reading order:
//!
//! - [`child`]: what a child prints and the parent reads;
//! - [`heap`]: the allocator that counts allocations;
//! - [`callgrind`] and [`disassembly`]: exact counts of instructions and locked instructions;
//! - [`report`]: figures, the table of ratios, the JSON file and the gates;
//! - [`exec`]: the bench of executors, built from all of these.

pub mod callgrind;
pub mod child;
pub mod disassembly;
pub mod exec;
pub mod heap;
pub mod report;

use std::path::{Path, PathBuf};

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the benches read x86-64 disassembly and its time-stamp counter");

/// What goes wrong in a bench is reported to a person and ends the run: a message is enough.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// The folder for reports, created if needed: `target/bench` of the workspace, wherever the build's own
/// target folder is.
///
/// # Errors
///
/// If the folder cannot be created.
pub fn report_folder() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().nth(2).ok_or("this package is not in tests/ of a workspace")?;
    let folder = workspace.join("target/bench");
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    Ok(folder)
}
