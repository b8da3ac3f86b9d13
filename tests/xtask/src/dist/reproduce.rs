//! Another build of the images, from a copy of the sources in another folder and with nothing built before.
//!
//! An image that anyone can build for himself, byte by byte, need not be trusted. And whatever makes the bytes
//! differ, a path, a time, an order of directory entries, does not belong in an image in any case.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{build::Built, pe::Pe};
use crate::{architecture::rooms::FOLDERS, command::CommandLine, host::Host};

/// Copies the sources into the folder `to`, which is not there yet.
///
/// # Errors
///
/// They cannot be copied.
pub(crate) fn copy_sources(host: &Host, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("could not create {}", to.display()))?;
    let copy = host.program("cp").words("-R Cargo.toml Cargo.lock");
    let is_there = |folder: &&&str| host.root().join(folder).is_dir();
    FOLDERS.iter().filter(is_there).fold(copy, CommandLine::word).path(to).run()
}

/// Where two builds of an image differ, one sentence for each of its files that does.
///
/// # Errors
///
/// A file cannot be read.
pub(super) fn differences(first: &Built, second: &Built) -> Result<Vec<String>> {
    let ((sys, pdb), (other_sys, other_pdb)) = (first.read()?, second.read()?);
    let pairs = [(".sys", sys, other_sys), (".pdb", pdb, other_pdb)];
    let describe = |(what, one, other): (&str, Vec<u8>, Vec<u8>)| {
        let difference = difference(&one, &other)?;
        Some(format!("reproducibility: built from another folder, the {what} differs: {difference}"))
    };
    Ok(pairs.into_iter().filter_map(describe).collect())
}

/// From where on two files differ, in each part of an image.
fn difference(one: &[u8], other: &[u8]) -> Option<String> {
    if one == other {
        return None;
    }
    // The symbols are no image.
    let pe = Pe::parse(one).ok();
    let mut parts = Vec::new();
    let differing = one.iter().zip(other).enumerate().filter(|(_, (one, other))| one != other);
    for (offset, _) in differing {
        let part = pe.as_ref().map_or("the file", |pe| pe.part_at(offset));
        if !parts.iter().any(|(known, _)| *known == part) {
            parts.push((part, offset));
        }
    }
    let mut places: Vec<String> =
        parts.iter().map(|(part, offset)| format!("{part} from offset {offset:#x} on")).collect();
    if one.len() != other.len() {
        places.push(format!("{} bytes and {}", one.len(), other.len()));
    }
    Some(places.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::lint::sound;

    #[test]
    fn each_part_of_an_image_that_differs_is_named() {
        let one = sound::image();
        assert_eq!(difference(&one, &one), None);
        let mut other = one.clone();
        // Where the build's hash is, which differs whenever anything does; and what made it differ.
        for offset in [0x48, 0x49, 0x601, 0x6ff, 0xfff] {
            other[offset] ^= 1;
        }
        let expected =
            "the headers from offset 0x48 on, .rdata from offset 0x601 on, .reloc from offset 0xfff on";
        assert_eq!(difference(&one, &other).as_deref(), Some(expected));
    }

    #[test]
    fn other_files_have_no_parts() {
        assert_eq!(difference(b"symbols", b"symbols"), None);
        assert_eq!(difference(b"symbols", b"sYmbols").as_deref(), Some("the file from offset 0x1 on"));
        assert_eq!(difference(b"symbols", b"symbols!").as_deref(), Some("7 bytes and 8"));
    }
}
