//! Boots a real Xen, and on it a guest that is nothing but this project's code: `tests/lab`.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use crate::{
    command::CommandLine,
    host::{Host, Need},
    levels::{Outcome, passed},
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

/// Boots it with each of the xenstoreds that are named; without any, with all.
///
/// # Errors
///
/// Something that the lab needs is missing, or the guest does not build.
pub fn run(host: &Host, daemons: &[String]) -> Result<bool> {
    host.supply(NEEDS).map_err(|missing| anyhow!(missing))?;
    let guest = build(host)?;
    let line = host.cargo().words("run --quiet --package xen-lab --").path(&guest);
    let line = daemons.iter().fold(line.path(&host.target().join("lab")), CommandLine::word);
    // It has said what is wrong.
    Ok(line.run().is_ok())
}

/// The level.
///
/// # Errors
///
/// The guest does not build, or has failed.
pub fn level(host: &Host) -> Result<Outcome> {
    if run(host, &[])? {
        passed("the xenstore suite, on xenstored and oxenstored of Xen 4.17")
    } else {
        Err(anyhow!("see above"))
    }
}

/// Builds the guest.
fn build(host: &Host) -> Result<PathBuf> {
    let toolchain = TARGET.toolchain(host)?.context("the toolchain has gone")?;
    let folder = host.target().join("no_std");
    let line = toolchain.cargo(host.root(), "build").words("--target-dir").path(&folder);
    let line = line.words("--target").word(TARGET.triple).words("--profile lab --package lab-guest --config");
    let line = line.word(FLAGS);
    match toolchain {
        Toolchain::Installed => line,
        // Nobody else has a `memcpy`.
        Toolchain::Debian => line.word("-Zbuild-std-features=compiler-builtins-mem"),
    }
    .run()?;
    Ok(folder.join(TARGET.triple).join("lab/lab-guest"))
}
