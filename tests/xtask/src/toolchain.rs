//! Two ways to a library for a target that the host's compiler does not come with.
//!
//! Rustup installs `core` for a target beside the host's, ready to link. Debian ships the library's sources
//! only, and cargo builds them first; that is an unstable feature of cargo, which Debian's can be told to allow.
//! The first is faster, the second is there wherever a Debian mirror is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{command::CommandLine, host::Host};

/// A target that the host's compiler does not come with.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its name, as in `--target`.
    pub(crate) triple: &'static str,
    /// The environment variable that overrides the choice, for testing: `rustup` or `debian`.
    pub(crate) choice: &'static str,
}

/// Where the target's `core` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// It is installed beside the host's, as rustup does it.
    Installed,
    /// Debian ships the library's sources, and cargo builds them first.
    Debian,
}

/// The Debian packages of the second way.
pub(crate) const PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// Debian's, wherever another toolchain may shadow them on the path.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Set by rustup and by `cargo run`, for the other toolchain.
const OTHER_TOOLCHAIN: &[&str] = &["CARGO", "RUSTUP_TOOLCHAIN", "RUSTDOC", "LD_LIBRARY_PATH"];

impl Target {
    /// The toolchain to build with, if there is one.
    ///
    /// # Errors
    ///
    /// The override makes no sense.
    pub(crate) fn toolchain(&self, host: &Host) -> Result<Option<Toolchain>> {
        let installed = || self.is_installed(host).then_some(Toolchain::Installed);
        let debian = || has_debian_sources(host).then_some(Toolchain::Debian);
        match std::env::var(self.choice).as_deref() {
            Ok("rustup") => Ok(installed()),
            Ok("debian") => Ok(debian()),
            Ok(other) => bail!("{} is `{other}`, but should be `rustup`, `debian` or not set", self.choice),
            Err(_) => Ok(installed().or_else(debian)),
        }
    }

    /// Whether there is a toolchain. A wrong override counts as one: it is reported when the level runs.
    pub(crate) fn is_there(&self, host: &Host) -> bool {
        self.toolchain(host).map_or(true, |found| found.is_some())
    }

    fn is_installed(&self, host: &Host) -> bool {
        let library =
            host.program("rustc").words("--print target-libdir --target").word(self.triple).answer();
        library.is_some_and(|path| Path::new(&path).is_dir())
    }
}

impl Toolchain {
    /// The beginning of a cargo command that builds for a [`Target`] in the workspace at `root`. Cargo's own
    /// target directory must follow: the other toolchain's build would not survive in the same.
    pub(crate) fn cargo(self, root: &Path, command: &str) -> CommandLine {
        match self {
            Self::Installed => CommandLine::cargo(root).word(command),
            Self::Debian => CommandLine::new(root, DEBIAN_CARGO)
                .word(command)
                .word("-Zbuild-std=core,compiler_builtins")
                .set("RUSTC", DEBIAN_RUSTC)
                .set("RUSTC_BOOTSTRAP", "1")
                .without(OTHER_TOOLCHAIN),
        }
    }

    /// The folder that holds the compiler and its libraries.
    ///
    /// # Errors
    ///
    /// The compiler does not say.
    pub(crate) fn sysroot(self, host: &Host) -> Result<PathBuf> {
        self.ask(host, "--print sysroot").map(PathBuf::from)
    }

    /// The compiler and its version.
    ///
    /// # Errors
    ///
    /// The compiler does not say.
    pub(crate) fn version(self, host: &Host) -> Result<String> {
        self.ask(host, "--version")
    }

    /// What the compiler answers.
    pub(crate) fn ask(self, host: &Host, question: &str) -> Result<String> {
        let rustc = match self {
            Self::Installed => host.program("rustc"),
            Self::Debian => host.program(DEBIAN_RUSTC).without(OTHER_TOOLCHAIN),
        };
        let line = rustc.words(question);
        let shown = line.to_string();
        line.answer().with_context(|| format!("`{shown}` failed"))
    }

    /// Where `core` comes from, in a few words.
    pub(crate) fn origin(self) -> &'static str {
        match self {
            Self::Installed => "the installed target",
            Self::Debian => "Debian's library sources",
        }
    }
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
