//! Which instructions of a file lock the bus, from its disassembly.
//!
//! On x86 a read-modify-write is atomic for other processors when it carries a `lock` prefix, or when it
//! is an `xchg` with memory, which locks without being asked. Both cost much the same, some 20 cycles
//! and more if another processor has the line, and are what an executor should do least of.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::Result;

/// The instructions of one file.
#[derive(Debug)]
pub struct Disassembly {
    /// Where instructions start, in rising order: addresses of the file, not of where it is loaded.
    starts: Vec<u64>,
    /// Those of `starts` that lock.
    locked: BTreeSet<u64>,
}

impl Disassembly {
    /// Disassembles the executable or library at `path`.
    ///
    /// # Errors
    ///
    /// If `objdump` is not installed or cannot read the file.
    pub fn of(path: &Path) -> Result<Self> {
        let output = Command::new("objdump")
            .args(["--disassemble", "--no-show-raw-insn", "--wide"])
            .arg(path)
            .output()
            .map_err(|error| format!("objdump: {error}; on Debian: apt-get install binutils"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("objdump {}: {said}", path.display()).into());
        }
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn parse(listing: &str) -> Self {
        let instructions = || {
            listing.lines().filter_map(|line| {
                let (address, text) = line.split_once(":\t")?;
                Some((u64::from_str_radix(address.trim(), 16).ok()?, text))
            })
        };
        let mut starts: Vec<u64> = instructions().map(|(address, _)| address).collect();
        starts.sort_unstable();
        let locked = instructions().filter(|(_, text)| locks(text)).map(|(address, _)| address).collect();
        Self { starts, locked }
    }

    /// Whether the instruction at `address` locks; `None` if no instruction starts there.
    #[must_use]
    pub fn locks_at(&self, address: u64) -> Option<bool> {
        self.starts.binary_search(&address).ok()?;
        Some(self.locked.contains(&address))
    }
}

/// Whether an instruction in objdump's (AT&T) notation locks.
fn locks(text: &str) -> bool {
    let text = text.split(['#', '<']).next().unwrap_or_default();
    let mut words = text.split_whitespace();
    let Some(mnemonic) = words.find(|word| *word == "lock" || word.starts_with("xchg")) else {
        return false;
    };
    mnemonic == "lock" || words.any(|operands| operands.contains(['(', ':']))
}

#[cfg(test)]
mod tests {
    use super::{Disassembly, locks};

    #[test]
    fn prefixed_and_exchanging_instructions_lock() {
        assert!(locks("lock cmpxchg %rcx,(%rdi)"));
        assert!(locks("lock orl $0x1,0x8(%rax)"));
        assert!(locks("xchg   %rax,(%rdi)"));
        assert!(locks("xchg   %al,0x2f1a3(%rip)        # 4a10 <FLAG>"));
        assert!(locks("xchg   %eax,%fs:0x18"));
    }

    #[test]
    fn padding_and_plain_instructions_do_not() {
        assert!(!locks("xchg   %ax,%ax"));
        assert!(!locks("xchg   %rdi,%rsi"));
        assert!(!locks("cmpxchg %rcx,(%rdi)"));
        assert!(!locks("call   4a10 <lock (of) a:thing>"));
        assert!(!locks("mov    %rax,(%rdi)"));
    }

    const LISTING: &str = "\
        0000000000001000 <wake>:\n    \
            1000:\tlock orl $0x1,(%rdi)\n    \
            1004:\txchg   %rax,(%rsi)\n    \
            1007:\tret\n";

    #[test]
    fn only_the_start_of_an_instruction_is_an_address() {
        let code = Disassembly::parse(LISTING);
        assert_eq!(
            [0x1000, 0x1004, 0x1007].map(|address| code.locks_at(address)),
            [Some(true), Some(true), Some(false)]
        );
        assert_eq!(code.locks_at(0x1005), None);
    }
}
