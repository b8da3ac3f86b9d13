//! Boots a real Xen, and on it a guest that is nothing but this project's code: `tests/lab`.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use crate::{
    command::CommandLine,
    host::{Host, Need},
    levels::{Outcome, passed},
    lints,
    no_std::{self, TARGET},
    toolchain::Toolchain,
};

/// What the lab needs of the machine. Xen is not among it: the lab unpacks its packages, and installs nothing.
pub const NEEDS: &[Need] = &[
    no_std::TOOLCHAIN,
    Need {
        what: "QEMU for x86-64",
        packages: &["qemu-system-x86"],
        rustup: None,
        present: |host| host.program("qemu-system-x86_64").word("--version").succeeds(),
    },
    Need {
        what: "xz",
        packages: &["xz-utils"],
        rustup: None,
        present: |host| host.program("xz").word("--version").succeeds(),
    },
    Need {
        what: "Debian 12, whose packages of Xen the lab unpacks,",
        packages: &["xen-hypervisor-4.17-amd64"],
        rustup: None,
        present: |host| {
            let known = host.program("apt-cache").words("show xen-hypervisor-4.17-amd64").answer();
            known.is_some_and(|known| !known.is_empty())
        },
    },
];

/// The guest is at the addresses that its linker script says, below 2 GiB.
const FLAGS: &str =
    r#"target.x86_64-unknown-none.rustflags=["-Crelocation-model=static","-Ccode-model=small"]"#;

/// The linker with which Debian's compiler links everything else, too.
const DEBIAN_LINKER: &[&str] = &[
    r#"target.x86_64-unknown-none.linker="ld""#,
    r#"target.x86_64-unknown-none.rustflags=["-Clinker-flavor=ld"]"#,
];

/// What the guest's peer is built for: the control domain.
const PEER_TARGET: &str = "x86_64-unknown-linux-gnu";
/// It brings its libraries along, so that it does not matter which they are; nobody looks for its symbols there.
const PEER_FLAGS: &str =
    r#"target.x86_64-unknown-linux-gnu.rustflags=["-Ctarget-feature=+crt-static","-Cstrip=symbols"]"#;

/// Plays what the words say: see the lab's own `--help`.
///
/// # Errors
///
/// Something that the lab needs is missing, or the guest or its peer does not build.
pub fn run(host: &Host, words: &[String]) -> Result<bool> {
    host.supply(NEEDS).map_err(|missing| anyhow!(missing))?;
    let (guest, peer) = (build_guest(host)?, build_peer(host)?);
    let line = host.cargo().words("run --quiet --package xen-lab --").path(&guest).path(&peer);
    let line = words.iter().fold(line.path(&host.target().join("lab")), CommandLine::word);
    // It has said what is wrong.
    Ok(line.run().is_ok())
}

/// The level: the quick set, of a guest that is clean where no other lints see it.
///
/// # Errors
///
/// The guest does not build, or has failed.
pub fn level(host: &Host) -> Result<Outcome> {
    lint_guest(host)?;
    if run(host, &[])? {
        passed("the quick scenarios, on Xen 4.17 with xenstored and oxenstored")
    } else {
        Err(anyhow!("see above"))
    }
}

/// Runs clippy over the guest as it is on a machine without an operating system, if there is a toolchain that can.
fn lint_guest(host: &Host) -> Result<()> {
    let toolchain = TARGET.toolchain(host)?.context("the toolchain has gone")?;
    if toolchain == Toolchain::Debian {
        return Ok(());
    }
    let line = toolchain.cargo(host.root(), "clippy").words("--quiet --target-dir");
    let line = line.path(&host.target().join("no_std")).words("--target").word(TARGET.triple);
    let line = line.words("--package lab-guest --").words(lints::strictness(&lints::version(host)));
    line.run()
}

/// Builds the guest.
fn build_guest(host: &Host) -> Result<PathBuf> {
    let toolchain = TARGET.toolchain(host)?.context("the toolchain has gone")?;
    let folder = host.target().join("no_std");
    let line = toolchain.cargo(host.root(), "build").words("--target-dir").path(&folder);
    let line = line.words("--target").word(TARGET.triple).words("--profile lab --package lab-guest --config");
    let line = line.word(FLAGS);
    match toolchain {
        Toolchain::Installed => line,
        Toolchain::Debian => {
            // Nobody else has a `memcpy`, and no linker comes with the compiler.
            let line = line.word("-Zbuild-std-features=compiler-builtins-mem");
            DEBIAN_LINKER.iter().fold(line, |line, config| line.word("--config").word(*config))
        }
    }
    .run()?;
    Ok(folder.join(TARGET.triple).join("lab/lab-guest"))
}

/// Builds the program that has the other end of what the guest shares.
fn build_peer(host: &Host) -> Result<PathBuf> {
    // With a target named, the flags are for it alone, and not for what runs while it is built.
    let line =
        host.cargo().words("build --quiet --profile lab --package lab-peer --target").word(PEER_TARGET);
    line.word("--config").word(PEER_FLAGS).run()?;
    Ok(host.target().join(PEER_TARGET).join("lab/lab-peer"))
}
