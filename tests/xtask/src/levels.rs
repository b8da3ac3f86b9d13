//! The levels of tests, cheapest first: this table is the place to add one.

use std::fmt;

use anyhow::Result;

use crate::{
    dist,
    host::{Host, Need, Rustup},
    joints, lab, lints, miri, mutants, no_std,
};

/// One level.
#[derive(Debug)]
pub struct Level {
    /// Its name in the table of results.
    pub name: &'static str,
    /// What passing it shows.
    pub shows: &'static str,
    /// Whether a CI may go without it.
    pub duty: Duty,
    /// What must be installed.
    pub needs: &'static [Need],
    /// Runs it.
    pub run: fn(&Host) -> Result<Outcome>,
}

/// Whether a CI may go without a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// A CI that cannot run it fails.
    Mandatory,
    /// Run where the machine happens to allow it.
    Opportunistic,
}

/// What became of a level that did not fail.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed; what ran, in a few words.
    Passed(String),
    /// It could not be set up; why, and what would help.
    Skipped(String),
}

/// What the tests of `nt-sys` compare it with.
const DDK: Need = Need {
    what: "mingw-w64's compiler and DDK headers",
    packages: &["gcc-mingw-w64-x86-64-win32", "mingw-w64-x86-64-dev"],
    rustup: None,
    present: |host| {
        let compiles =
            "-fsyntax-only -idirafter /usr/share/mingw-w64/include/ddk -include ntddk.h -x c /dev/null";
        host.program("x86_64-w64-mingw32-gcc").words(compiles).succeeds()
    },
};

/// What the tests of `xen-abi` compare it with.
const XEN: Need = Need {
    what: "a C compiler and Xen's public headers",
    packages: &["gcc", "libc6-dev", "libxen-dev"],
    rustup: None,
    present: |host| {
        host.program("gcc")
            .words("-fsyntax-only -include stdint.h -include xen/xen.h -x c /dev/null")
            .succeeds()
    },
};

/// Every level, in the order in which they run.
pub const LEVELS: &[Level] = &[
    Level {
        name: "fmt",
        shows: "the sources are formatted as rustfmt.toml says",
        duty: Duty::Mandatory,
        needs: &[Need {
            what: "rustfmt",
            packages: &["rustfmt-web"],
            rustup: Some(Rustup::Component("rustfmt")),
            present: |host| host.cargo().words("fmt --version").succeeds(),
        }],
        run: |host| {
            host.cargo().words("fmt --all --check").run()?;
            passed("all packages")
        },
    },
    Level {
        name: "clippy",
        shows: "no lint of the workspace fires, in any target, with every feature",
        duty: Duty::Mandatory,
        needs: &[Need {
            what: "clippy",
            packages: &["rust-web-clippy"],
            rustup: Some(Rustup::Component("clippy")),
            present: |host| host.cargo().words("clippy --version").succeeds(),
        }],
        run: lints::run,
    },
    Level {
        name: "no_std",
        shows: "the portable packages build for a target that has no std, without their features",
        duty: Duty::Mandatory,
        needs: &[no_std::TOOLCHAIN],
        run: no_std::run,
    },
    Level {
        name: "dist",
        shows: "the kernel images build, keep to the rules for drivers, and are the same bytes from another folder",
        duty: Duty::Mandatory,
        needs: dist::NEEDS,
        run: dist::level,
    },
    Level {
        name: "test",
        shows: "unit, property, conformance, trace, compile-fail, architecture and documentation tests; the images in a \
                simulated NT; the ABIs of NT and of Xen against headers that are not ours",
        duty: Duty::Mandatory,
        needs: &[DDK, XEN],
        run: |host| {
            let totals = host
                .cargo()
                .words("test --workspace --exclude kexec-loom --all-features --no-fail-fast")
                .run_tests()?;
            passed(totals)
        },
    },
    Level {
        name: "doc",
        shows: "the documentation builds and no link in it is broken, private items included",
        duty: Duty::Mandatory,
        needs: &[],
        run: |host| {
            let doc = |what: &str| {
                host.cargo().words("doc --no-deps").words(what).set("RUSTDOCFLAGS", "-Dwarnings").run()
            };
            for package in no_std::PACKAGES {
                // As a driver sees it, without the features for hosts.
                doc(&format!("--package {package}"))?;
            }
            doc("--workspace --document-private-items --all-features")?;
            passed("all packages")
        },
    },
    Level {
        name: "loom",
        shows: "the models of kexec's concurrency hold in every interleaving of three preemptions at most",
        duty: Duty::Mandatory,
        needs: &[],
        run: |host| {
            passed(host.cargo().words("test --profile loom --package kexec-loom --no-fail-fast").run_tests()?)
        },
    },
    Level {
        name: "mutants",
        shows: "each atomic ordering in kexec is necessary: weaken it and a model fails",
        duty: Duty::Mandatory,
        needs: &[],
        run: |host| mutants::run(host, None)?.outcome(),
    },
    Level {
        name: "joints",
        shows: "each joint between driver, kexec and NT is needed: break it and a test of the simulated NT fails",
        duty: Duty::Mandatory,
        needs: dist::NEEDS,
        run: |host| joints::run(host, None)?.outcome(),
    },
    Level {
        name: "lab",
        shows: "on a real Xen, a guest of this project's code does what the quick scenarios say: xenstore, events, \
                grants, time, suspends, crash",
        duty: Duty::Mandatory,
        needs: lab::NEEDS,
        run: lab::level,
    },
    Level {
        name: "miri",
        shows: "no undefined behaviour under Stacked Borrows and Tree Borrows: kexec, the seam's memory, xenbus's cells",
        duty: Duty::Opportunistic,
        needs: &[],
        run: miri::run,
    },
];

/// The outcome of a level that passed.
#[expect(clippy::unnecessary_wraps, reason = "what the functions of the table return")]
pub(crate) fn passed(what_ran: impl fmt::Display) -> Result<Outcome> {
    Ok(Outcome::Passed(what_ran.to_string()))
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mandatory => "mandatory",
            Self::Opportunistic => "opportunistic",
        })
    }
}
