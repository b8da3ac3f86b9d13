//! Exact counts, by running a child under callgrind.
//!
//! Callgrind simulates the program and counts how often each instruction ran. Its file is read in its
//! plain form (no name or position compression), with instruction addresses:
//!
//! ```text
//! events: Ir
//! ob=/bin/exec
//! fn=wake
//! 0x1a30 17 5                address, source line, count
//! cfn=push
//! calls=1 0x1b00 40
//! 0x1a34 18 23               belongs to `calls`: what the call cost in all, counted again where it ran
//! totals: 5
//! ```
//!
//! The counts of all addresses give the instructions; those of the addresses that the [`Disassembly`]
//! knows to lock give the locked read-modify-writes, of this binary and of every library alike. An
//! address is that in the file, wherever the file was loaded; each is checked to start an instruction.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::disassembly::Disassembly;
use crate::{Result, child};

/// What one run of a child did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Instructions executed.
    pub instructions: u64,
    /// Those of them that were locked read-modify-writes.
    pub locked: u64,
}

/// The name that callgrind gives to code outside a file's text section: the stubs through which a file
/// calls its libraries, which do not lock.
const STUBS: &str = "???";

/// Runs children under callgrind.
#[derive(Debug)]
pub struct Callgrind {
    folder: PathBuf,
    disassemblies: BTreeMap<PathBuf, Disassembly>,
}

impl Callgrind {
    /// A profiler that keeps callgrind's files in `folder`, for `callgrind_annotate` to read.
    ///
    /// # Errors
    ///
    /// If valgrind is not installed or the folder cannot be created.
    pub fn new(folder: PathBuf) -> Result<Self> {
        Command::new("valgrind")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("valgrind: {error}; on Debian: apt-get install valgrind"))?;
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, disassemblies: BTreeMap::new() })
    }

    /// Counts what a child with these arguments does from its first instruction to its last.
    ///
    /// # Errors
    ///
    /// If the child fails, or callgrind's file and the disassembly disagree.
    pub fn count(&mut self, arguments: &[&str]) -> Result<Counts> {
        let file = self.folder.join(arguments.join("."));
        let wrapper = [
            "valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            "--dump-instr=yes".to_owned(),
            "--compress-strings=no".to_owned(),
            "--compress-pos=no".to_owned(),
            format!("--callgrind-out-file={}", file.display()),
        ];
        child::run(child::command(&wrapper, arguments)?)?;
        let profile = Profile::parse(&fs::read_to_string(&file)?)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let locked = self.locked(&profile)?;
        Ok(Counts { instructions: profile.instructions(), locked })
    }

    fn locked(&mut self, profile: &Profile) -> Result<u64> {
        let mut locked = 0;
        for (path, counts) in profile.objects.iter().filter(|(path, _)| *path != Path::new(STUBS)) {
            let code = self.disassembly(path)?;
            for (&address, &count) in counts {
                match code.locks_at(address) {
                    Some(true) => locked += count,
                    Some(false) => {}
                    None => {
                        return Err(format!("{address:#x} is no instruction of {}", path.display()).into());
                    }
                }
            }
        }
        Ok(locked)
    }

    fn disassembly(&mut self, path: &Path) -> Result<&Disassembly> {
        if !self.disassemblies.contains_key(path) {
            self.disassemblies.insert(path.to_owned(), Disassembly::of(path)?);
        }
        Ok(&self.disassemblies[path])
    }
}

/// How often each instruction ran: for each file, by address.
#[derive(Debug, Default)]
struct Profile {
    objects: BTreeMap<PathBuf, BTreeMap<u64, u64>>,
}

impl Profile {
    fn instructions(&self) -> u64 {
        self.objects.values().flat_map(BTreeMap::values).sum()
    }

    fn parse(text: &str) -> Result<Self> {
        let mut profile = Self::default();
        let mut object = PathBuf::new();
        let mut totals = None;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(path) = line.strip_prefix("ob=") {
                object = path.into();
            } else if line.starts_with("calls=") {
                lines.next();
            } else if let Some(sum) = line.strip_prefix("totals:") {
                totals = Some(sum.trim().parse::<u64>()?);
            } else if line.starts_with("0x") {
                let (address, count) = cost(line).ok_or_else(|| format!("cannot read `{line}`"))?;
                *profile.objects.entry(object.clone()).or_default().entry(address).or_default() += count;
            }
        }
        let (sum, totals) = (profile.instructions(), totals.ok_or("no totals: the run was cut short")?);
        if sum != totals {
            return Err(format!("the lines sum up to {sum} and callgrind says {totals}").into());
        }
        Ok(profile)
    }
}

/// The address and the count of a line `address line count`; no count is no event.
fn cost(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split(' ');
    let address = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    let _line: u64 = words.next()?.parse().ok()?;
    match words.next() {
        Some(count) => Some((address, count.parse().ok()?)),
        None => Some((address, 0)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Profile;

    const SAMPLE: &str = "\
# callgrind format
version: 1
positions: instr line
events: Ir

ob=/bin/exec
fl=/src/exec.rs
fn=exec::wake
0x1a30 17 5
fi=/src/atomic.rs
0x1a34 880 5
fe=/src/exec.rs
0x1a38 18 5
cob=/lib/libc.so.6
cfi=???
cfn=free
calls=5 0x4a10 0
0x1a38 18 40
0x1a30 17 2

ob=/lib/libc.so.6
fl=???
fn=free
0x4a10 0 40

totals: 57
";

    #[test]
    fn counts_are_summed_by_file_and_address_without_inclusive_costs() {
        let profile = Profile::parse(SAMPLE).unwrap();
        let exec = &profile.objects[Path::new("/bin/exec")];
        assert_eq!(exec.iter().collect::<Vec<_>>(), [(&0x1a30, &7), (&0x1a34, &5), (&0x1a38, &5)]);
        assert_eq!(profile.objects[Path::new("/lib/libc.so.6")][&0x4a10], 40);
        assert_eq!(profile.instructions(), 57);
    }

    #[test]
    fn a_file_that_does_not_add_up_is_refused() {
        let error = Profile::parse(&SAMPLE.replace("totals: 57", "totals: 58")).unwrap_err();
        assert!(error.to_string().contains("57"), "{error}");
    }

    #[test]
    fn a_file_without_totals_is_refused() {
        assert!(Profile::parse(&SAMPLE.replace("totals: 57", "")).is_err());
    }
}
