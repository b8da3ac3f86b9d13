//! The machine: where the repository is, what is installed on it, and how to get the rest.
//!
//! What is missing comes from Debian's packages. Toolchains and their parts are the developer's own business:
//! rustup is asked for nothing but a target, which changes none of what is already there.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result};

use crate::command::CommandLine;

/// The machine that the tests run on.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    lists_updated: OnceLock<bool>,
}

/// Something that a level or a command needs and that may not be installed.
#[derive(Debug)]
pub struct Need {
    /// What it is called in a message.
    pub what: &'static str,
    /// The Debian packages that bring it.
    pub packages: &'static [&'static str],
    /// What brings it to a toolchain that comes from rustup.
    pub rustup: Option<Rustup>,
    /// Whether it is there: asks for the thing itself, not for the package.
    pub present: fn(&Host) -> bool,
}

/// Something that rustup adds to a toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rustup {
    /// A program. It would be run in place of what the developer has, so it is only suggested.
    Component(&'static str),
    /// Another target's library. It is added without being asked for: nothing else changes.
    Target(&'static str),
}

impl Host {
    /// Finds the repository that this program belongs to.
    ///
    /// # Errors
    ///
    /// The sources are no longer where they were when this program was built.
    pub fn find() -> Result<Self> {
        // Cargo says where the package is now; it may have been somewhere else when it was built.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.join("../..").canonicalize().with_context(|| {
            format!("there is no repository around {}; start this as `cargo xtask`", package.display())
        })?;
        Ok(Self { root, lists_updated: OnceLock::new() })
    }

    /// The top of the repository.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where builds go. One that must not disturb the others has a folder of its own in there.
    #[must_use]
    pub fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.root.join("target"), |dir| self.root.join(dir))
    }

    /// The cargo that runs us.
    #[must_use]
    pub fn cargo(&self) -> CommandLine {
        CommandLine::cargo(&self.root)
    }

    /// Another program.
    #[must_use]
    pub fn program(&self, name: &str) -> CommandLine {
        CommandLine::new(&self.root, name)
    }

    /// Sees to it that everything in `needs` is there, installing what is not where that is allowed.
    ///
    /// # Errors
    ///
    /// What is missing, and the command that would bring it.
    pub fn supply(&self, needs: &[Need]) -> Result<(), String> {
        for need in needs {
            let present = || (need.present)(self);
            if !(present()
                || need.rustup.is_some_and(|rustup| self.add(rustup)) && present()
                || self.is_root() && self.install(need.packages) && present())
            {
                return Err(need.message());
            }
        }
        Ok(())
    }

    /// Whether rustup, where it is, could add a target to the toolchain that runs us.
    fn add(&self, rustup: Rustup) -> bool {
        let is_target = matches!(rustup, Rustup::Target(_));
        is_target && Self::attempt(self.program("rustup").words(&rustup.arguments()))
    }

    fn is_root(&self) -> bool {
        self.program("id").word("-u").answer().is_some_and(|id| id == "0")
    }

    /// Whether apt-get could install them.
    fn install(&self, packages: &[&str]) -> bool {
        let apt = || self.program("apt-get").set("DEBIAN_FRONTEND", "noninteractive");
        // Even if some list could not be had, the packages may be in another.
        self.lists_updated.get_or_init(|| Self::attempt(apt().words("update --quiet")));
        // Someone else's apt-get may be at work.
        let install = apt().words("install --yes --quiet --no-install-recommends -o DPkg::Lock::Timeout=60");
        Self::attempt(packages.iter().fold(install, CommandLine::word))
    }

    /// Whether it succeeds. There may be another way, so that the failure is only shown.
    fn attempt(line: CommandLine) -> bool {
        line.run().inspect_err(|error| println!("{error:#}")).is_ok()
    }
}

impl Need {
    fn message(&self) -> String {
        let apt = format!("`sudo apt-get install --no-install-recommends {}`", self.packages.join(" "));
        let way = match self.rustup {
            Some(rustup) => format!("`rustup {}`, or {apt}", rustup.arguments()),
            None => apt,
        };
        format!("{} is missing; to get it: {way}", self.what)
    }
}

impl Rustup {
    fn arguments(self) -> String {
        match self {
            Self::Component(name) => format!("component add {name}"),
            Self::Target(triple) => format!("target add {triple}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_found() {
        let host = Host::find().expect("the tests run in the repository");
        assert!(host.root().join("tests/xtask/Cargo.toml").is_file());
    }

    #[test]
    fn what_is_missing_is_named_with_the_way_to_get_it() {
        let need = Need {
            what: "the oracle",
            packages: &["delphi", "delphi-dev"],
            rustup: Some(Rustup::Component("oracle")),
            present: |_| false,
        };
        assert_eq!(
            need.message(),
            "the oracle is missing; to get it: `rustup component add oracle`, \
             or `sudo apt-get install --no-install-recommends delphi delphi-dev`"
        );
    }

    #[test]
    fn what_is_there_is_not_installed() {
        let host = Host::find().expect("the tests run in the repository");
        let need = Need { what: "nothing", packages: &[], rustup: None, present: |_| true };
        assert_eq!(host.supply(&[need]), Ok(()));
    }
}
