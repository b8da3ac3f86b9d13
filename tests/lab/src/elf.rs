//! What a program or a module cannot do without, and what a guest is in memory.

use anyhow::{Context, Result, bail};
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

/// What a program without an operating system is in memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Where it begins.
    pub(crate) entry: u32,
    /// Where its first byte is.
    pub(crate) address: u32,
    /// All of its segments, with zeros between them.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes of zeros come after them.
    pub(crate) zeros: usize,
}

/// A program, by its physical addresses, if it is not larger than that.
pub(crate) fn program(bytes: &[u8], largest: usize) -> Result<Program> {
    let file = ElfFile::<FileHeader64<Endianness>>::parse(bytes).context("it is no program")?;
    let endian = file.endian();
    let headers = file.elf_header().program_headers(endian, bytes)?.iter();
    let segments: Vec<_> = headers.filter(|header| header.p_type(endian) == object::elf::PT_LOAD).collect();
    let first = segments.iter().map(|segment| segment.p_paddr(endian)).min().context("it has no segments")?;
    let (mut memory, mut end) = (Vec::new(), 0);
    for segment in segments {
        let Ok(data) = segment.data(endian, bytes) else { bail!("a segment is not in the file") };
        let at = usize::try_from(segment.p_paddr(endian) - first)?;
        let size = usize::try_from(segment.p_memsz(endian))?.max(data.len());
        let after = at.checked_add(size).filter(|after| *after <= largest);
        end = after.with_context(|| format!("it takes more than {} MiB", largest >> 20))?.max(end);
        if memory.len() < at + data.len() {
            memory.resize(at + data.len(), 0);
        }
        memory[at..at + data.len()].copy_from_slice(data);
    }
    let entry = u32::try_from(file.entry()).context("it begins above 4 GiB")?;
    let address = u32::try_from(first).context("it is above 4 GiB")?;
    Ok(Program { entry, address, zeros: end - memory.len(), bytes: memory })
}

/// What is in a section.
pub(crate) fn section<'b>(bytes: &'b [u8], name: &str) -> Result<&'b [u8]> {
    let file = object::File::parse(bytes).context("it is no program")?;
    let section = file.section_by_name(name).with_context(|| format!("it has no section {name}"))?;
    Ok(section.data()?)
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

    /// A file with these segments: their types, where they are, what is in them, and how long they are in memory.
    fn file(segments: &[(u32, u64, &[u8], u64)]) -> Vec<u8> {
        let (header, each) = (64, 56);
        let (mut headers, mut contents) = (Vec::new(), Vec::new());
        for (kind, address, bytes, size) in segments {
            let offset = header + each * segments.len() + contents.len();
            // A virtual address that is not the physical one: the latter counts.
            let words = [offset as u64, address + 0x8000_0000, *address, bytes.len() as u64, *size, 4096];
            headers.extend(kind.to_le_bytes().into_iter().chain([0; 4]));
            headers.extend(words.into_iter().flat_map(u64::to_le_bytes));
            contents.extend_from_slice(bytes);
        }
        let mut file = b"\x7FELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        // An executable for x86-64; its entry; where the headers of the segments are, and no sections.
        file.extend([2, 0, 62, 0, 1, 0, 0, 0].into_iter().chain(0x20_0004u64.to_le_bytes()));
        file.extend(64u64.to_le_bytes().into_iter().chain([0; 12]));
        let count = u16::try_from(segments.len()).expect("there are few");
        file.extend([64, 56, count, 64, 0, 0].into_iter().flat_map(u16::to_le_bytes));
        file.extend(headers);
        file.extend(contents);
        file
    }

    /// As Xen's loader would put it: at physical addresses, whatever is between the segments or after them being zeros.
    #[test]
    fn a_program_is_what_it_is_in_memory() {
        const LOAD: u32 = 1;
        const NOTE: u32 = 4;
        let three =
            file(&[(LOAD, 0x20_0010, b"data", 100), (NOTE, 0, b"note", 4), (LOAD, 0x20_0000, b"code", 4)]);
        let expected = b"code\0\0\0\0\0\0\0\0\0\0\0\0data".to_vec();
        let expected = Program { entry: 0x20_0004, address: 0x20_0000, bytes: expected, zeros: 96 };
        assert_eq!(program(&three, 116).expect("it is one"), expected);
        // Malformed: shorter in memory than in the file.
        let short = program(&file(&[(LOAD, 0x20_0000, b"code", 1)]), 8).expect("it is one");
        assert_eq!((short.bytes.as_slice(), short.zeros), (b"code".as_slice(), 0));
        let error = |file: &[u8], largest| program(file, largest).expect_err("it is none").to_string();
        assert!(error(&three, 115).contains("it takes more than"));
        assert!(error(&file(&[(LOAD, 0, b"", u64::MAX), (LOAD, 8, b"", u64::MAX)]), 8).contains("more than"));
        assert!(error(&file(&[(NOTE, 0, b"note", 4)]), 8).contains("no segments"));
        assert!(error(&three[..three.len() - 1], 116).contains("not in the file"));
        assert!(error(&file(&[(LOAD, 1 << 32, b"code", 4)]), 8).contains("above 4 GiB"));
        assert!(error(b"no ELF", 8).contains("no program"));
    }

    #[test]
    fn a_section_is_found_by_its_name() {
        let program = std::env::current_exe().and_then(std::fs::read).expect("a test is a program");
        assert!(!section(&program, ".text").expect("there is code").is_empty());
        let error = section(&program, ".boot_sector").expect_err("it is begun by no BIOS").to_string();
        assert!(error.contains(".boot_sector"), "{error}");
    }

    /// This program is one that names the C library.
    #[test]
    fn a_program_names_libraries() {
        let program = std::env::current_exe().and_then(std::fs::read).expect("a test is a program");
        let names = needed(&program).expect("it is one");
        assert!(names.iter().any(|name| name.starts_with("libc.so")), "{names:?}");
    }
}
