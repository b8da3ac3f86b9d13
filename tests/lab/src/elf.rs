//! What a program or a module cannot do without.

use anyhow::{Context, Result};
use object::{
    Endianness, Object, ObjectSection,
    elf::FileHeader64,
    read::elf::{Dyn, ElfFile, FileHeader, ProgramHeader},
};

/// The shared libraries that a program or a library names.
pub(crate) fn needed(bytes: &[u8]) -> Result<Vec<String>> {
    let file = ElfFile::<FileHeader64<Endianness>>::parse(bytes).context("it is no program")?;
    let endian = file.endian();
    let sections = file.elf_header().sections(endian, bytes)?;
    let mut names = Vec::new();
    for header in file.elf_header().program_headers(endian, bytes)? {
        let Some(entries) = header.dynamic(endian, bytes)? else { continue };
        let strings = sections.dynamic(endian, bytes)?.map(|(_, link)| link);
        let strings = strings.context("its dynamic section has no strings")?;
        let strings = sections.strings(endian, bytes, strings)?;
        for entry in entries.iter().filter(|entry| entry.tag(endian) == object::elf::DT_NEEDED) {
            let name = entry.string(endian, strings)?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

/// The modules that a module of Linux names, as files are called.
pub(crate) fn depends(bytes: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(bytes).context("it is no module")?;
    let section = file.section_by_name(".modinfo").context("it says nothing of itself")?;
    Ok(named(section.data()?))
}

fn named(modinfo: &[u8]) -> Vec<String> {
    let lines = modinfo.split(|byte| *byte == 0);
    let names = lines.filter_map(|line| line.strip_prefix(b"depends="));
    names
        .flat_map(|names| names.split(|byte| *byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_others() {
        assert_eq!(named(b"license=GPL\0depends=xen-privcmd,loop\0name=xenfs\0"), ["xen-privcmd", "loop"]);
        assert_eq!(named(b"depends=\0name=loop\0"), [""; 0]);
    }

    /// This program is one that names the C library.
    #[test]
    fn a_program_names_libraries() {
        let program = std::env::current_exe().and_then(std::fs::read).expect("a test is a program");
        let names = needed(&program).expect("it is one");
        assert!(names.iter().any(|name| name.starts_with("libc.so")), "{names:?}");
    }
}
