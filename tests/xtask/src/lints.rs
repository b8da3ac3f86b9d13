//! Runs clippy, whose every version knows other lints.

use anyhow::Result;

use crate::{
    host::Host,
    levels::{Outcome, passed},
    no_std,
};

/// The compiler version that the sources are held clean for: the workspace's `rust-version`.
const OURS: &str = env!("CARGO_PKG_RUST_VERSION");

/// Runs clippy over everything. With the version that the sources are written for, a lint is a failure;
/// another's new lints are shown, and do not fail those who have a newer compiler.
///
/// # Errors
///
/// A lint fires, or the sources do not build.
pub fn run(host: &Host) -> Result<Outcome> {
    let theirs = version(host);
    let strictness = strictness(&theirs);
    let clippy = |what: &str| host.cargo().word("clippy").words(what).word("--").words(strictness).run();
    clippy("--workspace --all-targets --all-features")?;
    for package in no_std::PACKAGES {
        // As a driver sees it, without the features for hosts.
        clippy(&format!("--package {package}"))?;
    }
    if theirs == OURS {
        passed("all packages and targets")
    } else {
        passed(format_args!("all packages; only shown, for this is {theirs} and the sources are for {OURS}"))
    }
}

/// The version of the compiler that clippy is part of; nothing, if there is none.
pub(crate) fn version(host: &Host) -> String {
    let version = host.cargo().words("clippy --version").answer().unwrap_or_default();
    rust_version(&version).unwrap_or_default()
}

/// What clippy is told after `--`.
pub(crate) fn strictness(version: &str) -> &'static str {
    if version == OURS { "-D warnings" } else { "--cap-lints warn" }
}

/// The compiler version that goes with what `clippy --version` says: 1.95 with `clippy 0.1.95 (…)`.
fn rust_version(version: &str) -> Option<String> {
    let number = version.split_whitespace().nth(1)?;
    let minor = number.strip_prefix("0.1.")?;
    Some(format!("1.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clippy_counts_as_the_compiler_does() {
        assert_eq!(rust_version("clippy 0.1.95 (59807616e1 2026-04-14)").as_deref(), Some("1.95"));
        assert_eq!(rust_version("clippy 0.1.101").as_deref(), Some("1.101"));
        assert_eq!(rust_version("no such command"), None);
        assert_eq!(rust_version(""), None);
    }
}
