//! Builds the portable packages for a target that has no std.
//!
//! A host build proves nothing here: a dependency that quietly needs std compiles there. One package at
//! a time, because cargo would otherwise turn on a feature for one package that another one asked for.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{
    host::{Host, Need},
    levels::{Outcome, passed},
};

/// The packages that must build.
pub(crate) const PACKAGES: &[&str] = &["kexec"];

/// An x86-64 target without an operating system, as near to a kernel as the compiler's own targets come.
const TARGET: &str = "x86_64-unknown-none";

/// Overrides the choice of toolchain, for testing this file: `rustup` or `debian`.
const OVERRIDE: &str = "XTASK_NO_STD";

/// Debian's, wherever another toolchain may shadow them on the path.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What the level needs: one of the two.
pub const TOOLCHAIN: Need = Need {
    what: "a Rust toolchain that can build for x86_64-unknown-none",
    packages: &["rustc-web", "cargo-web", "rust-web-src"],
    rustup: Some("rustup target add x86_64-unknown-none"),
    // A wrong override is reported when the level runs.
    present: |host| choose(host).map_or(true, |found| found.is_some()),
};

/// Where the target's `core` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Toolchain {
    /// It is installed beside the host's, as rustup does it.
    Installed,
    /// Debian ships the library's sources, and cargo builds them first.
    Debian,
}

/// Builds each of the packages.
///
/// # Errors
///
/// One does not build, or the override makes no sense.
pub fn run(host: &Host) -> Result<Outcome> {
    let toolchain = choose(host)?.with_context(|| format!("{} is missing", TOOLCHAIN.what))?;
    for package in PACKAGES {
        let line = match toolchain {
            Toolchain::Installed => host.cargo().word("build"),
            Toolchain::Debian => host
                .program(DEBIAN_CARGO)
                .words("build -Zbuild-std=core --target-dir")
                .path(&host.target().join("no_std-debian"))
                .set("RUSTC", DEBIAN_RUSTC)
                .set("RUSTC_BOOTSTRAP", "1")
                // Set by rustup and by `cargo run`, for the other toolchain.
                .without(&["CARGO", "RUSTUP_TOOLCHAIN", "RUSTDOC", "LD_LIBRARY_PATH"]),
        };
        line.words("--target").word(TARGET).words("--no-default-features --package").word(package).run()?;
    }
    let how = match toolchain {
        Toolchain::Installed => "the installed target",
        Toolchain::Debian => "Debian's library sources",
    };
    passed(format_args!("{} with {how}", PACKAGES.join(", ")))
}

/// The toolchain to build with, if there is one.
fn choose(host: &Host) -> Result<Option<Toolchain>> {
    let installed = || has_installed_target(host).then_some(Toolchain::Installed);
    let debian = || has_debian_sources(host).then_some(Toolchain::Debian);
    match std::env::var(OVERRIDE).as_deref() {
        Ok("rustup") => Ok(installed()),
        Ok("debian") => Ok(debian()),
        Ok(other) => bail!("{OVERRIDE} is `{other}`, but should be `rustup`, `debian` or not set"),
        Err(_) => Ok(installed().or_else(debian)),
    }
}

fn has_installed_target(host: &Host) -> bool {
    let library = host.program("rustc").words("--print target-libdir --target").word(TARGET).answer();
    library.is_some_and(|path| Path::new(&path).is_dir())
}

fn has_debian_sources(host: &Host) -> bool {
    let sources = "/usr/lib/rustlib/src/rust/library/core/src/lib.rs";
    let version = host.program(DEBIAN_RUSTC).word("--version").answer();
    Path::new(DEBIAN_CARGO).is_file()
        && Path::new(sources).is_file()
        && version.is_some_and(|version| is_recent(&version, env!("CARGO_PKG_RUST_VERSION")).unwrap_or(false))
}

/// Whether `rustc --version` said at least the minimum: Debian's older compiler has the same path.
fn is_recent(version: &str, minimum: &str) -> Result<bool> {
    let number = |text: &str| -> Result<(u32, u32)> {
        let mut parts = text.split('.').map(str::parse);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
            _ => bail!("`{text}` is not a version"),
        }
    };
    let version = version.strip_prefix("rustc ").and_then(|rest| rest.split_whitespace().next());
    Ok(number(version.unwrap_or_default())? >= number(minimum)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_compiler_does_not_count() {
        let recent = |text| is_recent(text, "1.95").ok();
        assert_eq!(recent("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some(true));
        assert_eq!(recent("rustc 1.95.0"), Some(true));
        assert_eq!(recent("rustc 1.63.0"), Some(false));
        assert_eq!(recent("rustc 2.0.0"), Some(true));
        assert_eq!(recent("gcc 12"), None);
    }
}
