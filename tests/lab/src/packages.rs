//! Debian's packages, downloaded and unpacked into a folder. Nothing is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// What the control domain is made of; the kernel's package has its version in its name, and is found by this one.
const KERNEL: &str = "linux-image-amd64";
const PACKAGES: &[&str] = &[
    "busybox-static",
    "libc6",
    "libgcc-s1",
    "liblzma5",
    "libuuid1",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenhypfs1",
    "libxenmisc4.17",
    "libxenstore4",
    "libxentoolcore1",
    "libxentoollog1",
    "libyajl2",
    "libzstd1",
    "xen-hypervisor-4.17-amd64",
    "xen-utils-4.17",
    "xen-utils-common",
    "xenstore-utils",
    "zlib1g",
];
/// What the control domain needs besides, for guests with emulated devices.
pub(crate) const DEVICE_MODEL: &[&str] = &[
    "libbz2-1.0",
    "libdw1",
    "libelf1",
    "libfdt1",
    "libffi8",
    "libglib2.0-0",
    "libgstreamer-plugins-base1.0-0",
    "libgstreamer1.0-0",
    "libjpeg62-turbo",
    "liblz4-1",
    "libopus0",
    "liborc-0.4-0",
    "libpcre2-8-0",
    "libpixman-1-0",
    "libsasl2-2",
    "libspice-server1",
    "libssl3",
    "libstdc++6",
    "libudev1",
    "libunwind8",
    "libusb-1.0-0",
    "qemu-system-data",
    "qemu-system-xen",
    "seabios",
];

/// What helps if apt does not know the packages, or where they are.
const HINT: &str = "the lab is made of Debian 12's packages; is the machine one, and are its lists up to date? \
                    `sudo apt-get update` brings them";

/// Packages in certain versions.
#[derive(Debug)]
pub(crate) struct Packages {
    /// The files' names, with the versions.
    files: Vec<String>,
    names: Vec<String>,
}

impl Packages {
    /// Those that apt would choose today, with some more. Asks nobody outside.
    pub(crate) fn of_today(more: &[&str]) -> Result<Self> {
        let kernel = answer(Command::new("apt-cache").args(["depends", KERNEL]))?;
        let kernel = kernel.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        let kernel = kernel.with_context(|| format!("apt does not know which kernel {KERNEL} is: {HINT}"))?;
        let names: Vec<String> =
            PACKAGES.iter().chain(more).map(ToString::to_string).chain([kernel.trim().to_owned()]).collect();
        let lines =
            answer(Command::new("apt-get").args(["download", "--quiet", "--print-uris"]).args(&names))?;
        let mut files: Vec<String> = lines.lines().filter_map(file_of).map(str::to_owned).collect();
        files.sort();
        ensure!(files.len() == names.len(), "apt knows {} of {} packages: {HINT}", files.len(), names.len());
        Ok(Self { files, names })
    }

    /// A name for what is made of them: the same for the same versions.
    pub(crate) fn key(&self, recipe: &[&[u8]]) -> String {
        let mut hash = Sha256::new();
        for part in self.files.iter().map(String::as_bytes).chain(recipe.iter().copied()) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let (first, _) = hash.split_first_chunk().expect("it is longer");
        format!("{:016x}", u64::from_be_bytes(*first))
    }

    /// Downloads what is not in the folder `kept` yet, and unpacks all of them into `root`.
    pub(crate) fn unpack(&self, kept: &Path, root: &Path) -> Result<()> {
        fs::create_dir_all(kept)?;
        fs::create_dir_all(root)?;
        let missing = |file: &&String| !kept.join(file).is_file();
        if self.files.iter().any(|file| missing(&file)) {
            println!("downloads {} packages of Debian's into {}", self.names.len(), kept.display());
            let mut apt = Command::new("apt-get");
            apt.args(["download", "--quiet", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30"]);
            answer(apt.args(&self.names).current_dir(kept)).context("is there a network?")?;
        }
        for file in &self.files {
            let path: PathBuf = kept.join(file);
            ensure!(path.is_file(), "apt-get did not bring {file}");
            let status = Command::new("dpkg-deb").arg("-x").args([&path, root]).status();
            if !status.context("could not start dpkg-deb")?.success() {
                // It may have been cut short: the next attempt is to have another.
                fs::remove_file(&path)?;
                bail!("{} could not be unpacked, and was removed: try again", path.display());
            }
        }
        Ok(())
    }
}

/// The name of the file, of a line such as `'http://..' name_1.0_amd64.deb 123 SHA256:..`.
fn file_of(line: &str) -> Option<&str> {
    let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    rest.split(' ').next().filter(|file| !uri.is_empty() && file.strip_suffix(".deb").is_some())
}

/// What a program prints.
fn answer(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("could not start {program}: {HINT}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "{program} failed: {}: {HINT}", said.lines().last().unwrap_or_default());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_apt_names_a_file() {
        let line = "'http://a/pool/x_1%2b2_amd64.deb' x_1+2_amd64.deb 928188 SHA256:3d3f";
        assert_eq!(file_of(line), Some("x_1+2_amd64.deb"));
        assert_eq!(file_of("Reading package lists..."), None);
    }

    /// An image of other packages, or made in another way, is another image.
    #[test]
    fn a_key_is_of_versions_and_recipe() {
        let packages = |file: &str| Packages { files: vec![file.to_owned()], names: vec![] };
        let key = packages("a_1.deb").key(&[b"x"]);
        assert_eq!(key, packages("a_1.deb").key(&[b"x"]));
        assert_ne!(key, packages("a_2.deb").key(&[b"x"]));
        assert_ne!(key, packages("a_1.deb").key(&[b"y"]));
        assert_ne!(packages("a").key(&[b"bc"]), packages("ab").key(&[b"c"]));
    }
}
