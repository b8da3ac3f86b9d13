//! What was built, for a reader: printed, and written beside the image.

use std::fmt;

use object::pe;
use sha2::{Digest, Sha256};

use super::{Image, pe::Pe};

/// An image and what it was built with.
#[derive(Debug)]
pub(super) struct Report<'r> {
    pub(super) image: &'r Image,
    pub(super) pe: &'r Pe<'r>,
    pub(super) sys: &'r [u8],
    pub(super) pdb: &'r [u8],
    pub(super) tools: &'r str,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.image.name;
        writeln!(f, "{name}.sys, {}", self.image.purpose)?;
        writeln!(f, "built with {}\n", self.tools)?;
        for (extension, bytes) in [("sys", self.sys), ("pdb", self.pdb)] {
            let file = format!("{name}.{extension}");
            writeln!(f, "{file:<12} {:>9} bytes  sha256 {}", bytes.len(), Hash(bytes))?;
        }
        writeln!(f)?;
        for section in &self.pe.sections {
            let flag = |characteristic, letter| if section.is(characteristic) { letter } else { '-' };
            let flags = [
                flag(pe::IMAGE_SCN_MEM_READ, 'r'),
                flag(pe::IMAGE_SCN_MEM_WRITE, 'w'),
                flag(pe::IMAGE_SCN_MEM_EXECUTE, 'x'),
                flag(pe::IMAGE_SCN_MEM_DISCARDABLE, 'd'),
            ];
            let flags = String::from_iter(flags);
            writeln!(
                f,
                "{:<12} {:>9} bytes  {flags}  at {:#x}",
                section.name,
                section.memory.len(),
                section.memory.start
            )?;
        }
        writeln!(f, "\n{} imports", self.pe.imports.len())
    }
}

/// The SHA-256 of bytes, as `sha256sum` writes it.
struct Hash<'b>(&'b [u8]);

impl fmt::Display for Hash<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Sha256::digest(self.0).iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_as_sha256sum_does() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            Hash(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
