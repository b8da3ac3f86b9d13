//! LLD, which links for Windows anywhere.

use std::path::{Path, PathBuf};

use crate::{command::CommandLine, host::Host, toolchain::Toolchain};

/// A linker that takes the command line of Microsoft's.
#[derive(Debug)]
pub(super) struct Linker {
    program: &'static str,
    /// The arguments that make it one.
    flavor: &'static str,
    /// Where it is, if not on the path.
    folder: Option<PathBuf>,
    /// What it says that it is.
    pub(super) version: String,
}

/// The Debian package with the linker.
pub(super) const PACKAGES: &[&str] = &["lld-19"];

/// Debian's linkers: that of the package above, and that of the package `lld`, whichever version it stands for.
const DEBIAN: &[&str] = &["lld-link-19", "lld-link"];

/// The first version that writes a checksum into the image (`/RELEASE`).
const OLDEST: u32 = 16;

impl Linker {
    /// The one that comes with the toolchain, or else Debian's.
    pub(super) fn find(host: &Host, toolchain: Toolchain) -> Option<Self> {
        let ours = || match toolchain {
            Toolchain::Installed => Self::of_rustup(host),
            Toolchain::Debian => None,
        };
        let debians = || DEBIAN.iter().find_map(|program| Self::checked(host.root(), program, "", None));
        ours().or_else(debians)
    }

    fn of_rustup(host: &Host) -> Option<Self> {
        let sysroot = Toolchain::Installed.sysroot(host).ok()?;
        let tuple = Toolchain::Installed.ask(host, "--print host-tuple").ok()?;
        let folder = sysroot.join("lib/rustlib").join(tuple).join("bin");
        Self::checked(host.root(), "rust-lld", "-flavor link", Some(folder))
    }

    /// It, if it runs and is new enough.
    fn checked(
        root: &Path,
        program: &'static str,
        flavor: &'static str,
        folder: Option<PathBuf>,
    ) -> Option<Self> {
        let unchecked = Self { program, flavor, folder, version: String::new() };
        let version = unchecked.command(root).word("--version").answer()?;
        let version = version.split(" (").next()?.to_owned();
        (major(&version)? >= OLDEST).then_some(Self { version, ..unchecked })
    }

    /// The beginning of a link line that runs in `folder`.
    pub(super) fn command(&self, folder: &Path) -> CommandLine {
        let line = CommandLine::new(folder, self.program).words(self.flavor);
        match &self.folder {
            // The PDB says how the linker was called: by its plain name.
            Some(path) => line.set("PATH", &path.to_string_lossy()),
            None => line,
        }
    }
}

/// The major version in `LLD 19.1.7`, wherever in the line Debian has put its own name.
fn major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().skip_while(|word| *word != "LLD").nth(1)?;
    number.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_whoever_built_it() {
        assert_eq!(major("LLD 22.1.2 (/checkout/src/llvm-project/llvm 1cb4e3833c)"), Some(22));
        assert_eq!(major("Debian LLD 14.0.6"), Some(14));
        assert_eq!(major("LLD 19.1.7"), Some(19));
        assert_eq!(major("GNU ld 2.40"), None);
        assert_eq!(major(""), None);
    }
}
