//! What a kernel image must be, whatever is in it.
//!
//! An image that breaks one of these rules may well load on the machine of whoever built it, and be refused on
//! one where memory integrity is on, or crash it. The rules are those of
//!
//! - \[CI\] "Code integrity checking", the page of Driver Verifier about memory integrity, with its error codes;
//! - \[PE\] "PE Format";
//! - \[x64\] "x64 exception handling";
//!
//! and, where none is named, ours.

mod instructions;
#[cfg(test)]
pub(super) mod sound;

use std::{fmt, path::Path};

use object::{
    LittleEndian as LE,
    pe::{self, ImageDebugDirectory},
};

use super::pe::Pe;

/// An image under examination.
#[derive(Debug)]
pub(super) struct Subject<'s> {
    /// Its name, without `.sys`.
    pub(super) name: &'s str,
    pub(super) pe: &'s Pe<'s>,
    pub(super) sys: &'s [u8],
    pub(super) pdb: &'s [u8],
    /// Folders of this machine, which are nobody's business.
    pub(super) folders: &'s [&'s Path],
}

/// A rule, and how an image broke it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    rule: &'static str,
    what: String,
}

struct Rule {
    name: &'static str,
    /// What breaks the rule, one sentence each.
    broken: fn(&Subject<'_>) -> Vec<String>,
}

/// Everything that is wrong with the image.
pub(super) fn violations(subject: &Subject<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for Rule { name, broken } in RULES {
        found.extend(broken(subject).into_iter().map(|what| Violation { rule: name, what }));
    }
    found
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

const RULES: &[Rule] = &[
    Rule { name: "machine", broken: machine },
    Rule { name: "kind of file", broken: kind_of_file },
    Rule { name: "subsystem", broken: subsystem },
    Rule { name: "mitigations", broken: mitigations },
    Rule { name: "alignment", broken: alignment },
    Rule { name: "writable code", broken: writable_code },
    Rule { name: "import addresses", broken: import_addresses },
    Rule { name: "entry point", broken: entry_point },
    Rule { name: "directories", broken: directories },
    Rule { name: "unwind information", broken: unwind_information },
    Rule { name: "INIT", broken: init },
    Rule { name: "checksum", broken: checksum },
    Rule { name: "symbols", broken: symbols },
    Rule { name: "paths", broken: paths },
    Rule { name: "instructions", broken: |subject| instructions::unsuitable(subject.pe) },
];

/// No sentence if it holds, one if not.
fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Vec<String> {
    if holds { Vec::new() } else { vec![otherwise()] }
}

fn machine(subject: &Subject<'_>) -> Vec<String> {
    let machine = subject.pe.file_header().machine.get(LE);
    expect(machine == pe::IMAGE_FILE_MACHINE_AMD64, || format!("{machine:#06x} is not x64"))
}

/// A program, as a driver is: a DLL is something that drivers link to. It can be moved: the kernel does so.
fn kind_of_file(subject: &Subject<'_>) -> Vec<String> {
    let flags = subject.pe.file_header().characteristics.get(LE);
    let wanted = pe::IMAGE_FILE_EXECUTABLE_IMAGE | pe::IMAGE_FILE_LARGE_ADDRESS_AWARE;
    expect(flags == wanted, || {
        format!(
            "the characteristics are {flags:#06x}, not {wanted:#06x}: executable, large addresses, nothing else"
        )
    })
}

fn subsystem(subject: &Subject<'_>) -> Vec<String> {
    let header = subject.pe.optional_header();
    let version = (header.major_subsystem_version.get(LE), header.minor_subsystem_version.get(LE));
    let subsystem = header.subsystem.get(LE);
    expect(subsystem == pe::IMAGE_SUBSYSTEM_NATIVE && version == (10, 0), || {
        format!("{subsystem}, version {}.{}, is not the native one of Windows 10", version.0, version.1)
    })
}

/// \[PE\] The bits of the header that ask for protection, and for a signature.
fn mitigations(subject: &Subject<'_>) -> Vec<String> {
    let flags = subject.pe.optional_header().dll_characteristics.get(LE);
    let wanted = [
        (pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, "DYNAMIC_BASE"),
        (pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA, "HIGH_ENTROPY_VA"),
        (pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT, "NX_COMPAT"),
        (pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY, "FORCE_INTEGRITY"),
    ];
    let missing = wanted.into_iter().filter(|(flag, _)| flags & flag == 0);
    missing.map(|(_, name)| format!("{name} is not set in the header")).collect()
}

/// \[CI\] 0x2004: sections are protected by the page.
fn alignment(subject: &Subject<'_>) -> Vec<String> {
    const PAGE: u32 = 0x1000;
    let alignment = subject.pe.optional_header().section_alignment.get(LE);
    expect(alignment != 0 && alignment.is_multiple_of(PAGE), || {
        format!("sections are aligned to {alignment:#x}, not to whole pages")
    })
}

/// \[CI\] 0x2003: nothing is both writable and executable.
fn writable_code(subject: &Subject<'_>) -> Vec<String> {
    let sections = subject.pe.sections.iter();
    let both = sections.filter(|one| one.is(pe::IMAGE_SCN_MEM_WRITE) && one.is(pe::IMAGE_SCN_MEM_EXECUTE));
    both.map(|one| format!("the section {} is writable and executable", one.name)).collect()
}

/// \[CI\] 0x2005: the loader writes the table of imported addresses, so that it is not in code. And nobody else
/// does, so that it is not in data.
fn import_addresses(subject: &Subject<'_>) -> Vec<String> {
    let Some((address, _)) = subject.pe.directory(pe::IMAGE_DIRECTORY_ENTRY_IAT) else {
        return vec!["there is no table of them".to_owned()];
    };
    let section = subject.pe.section_at(address);
    let constant = section.is_some_and(|one| !one.is(pe::IMAGE_SCN_MEM_WRITE | pe::IMAGE_SCN_MEM_EXECUTE));
    expect(constant, || {
        let place = section.map_or("no section", |section| &section.name);
        format!("their table, at {address:#x}, is in {place}, not in constant data")
    })
}

fn entry_point(subject: &Subject<'_>) -> Vec<String> {
    let address = subject.pe.optional_header().address_of_entry_point.get(LE);
    let section = subject.pe.section_at(address);
    expect(section.is_some_and(|section| section.is(pe::IMAGE_SCN_MEM_EXECUTE)), || {
        format!("{address:#x} is not in code")
    })
}

/// What the image must have, and must not have: nothing links to a driver, and the kernel has no threads' storage.
fn directories(subject: &Subject<'_>) -> Vec<String> {
    let expected = [
        (pe::IMAGE_DIRECTORY_ENTRY_EXPORT, "table of exports", false),
        (pe::IMAGE_DIRECTORY_ENTRY_TLS, "table of thread-local storage", false),
        (pe::IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT, "table of delayed imports", false),
        (pe::IMAGE_DIRECTORY_ENTRY_BASERELOC, "table of relocations", true),
    ];
    let wrong =
        expected.into_iter().filter(|(index, _, there)| subject.pe.directory(*index).is_some() != *there);
    wrong.map(|(_, name, there)| format!("there is {} {name}", if there { "no" } else { "a" })).collect()
}

/// \[x64\] Every function that has a frame or calls another can be unwound.
fn unwind_information(subject: &Subject<'_>) -> Vec<String> {
    expect(!subject.pe.functions.is_empty(), || "there is none".to_owned())
}

/// The code that runs once is given back.
fn init(subject: &Subject<'_>) -> Vec<String> {
    let init = subject.pe.sections.iter().find(|section| section.name == "INIT");
    expect(init.is_none_or(|section| section.is(pe::IMAGE_SCN_MEM_DISCARDABLE)), || {
        "the section is not discardable".to_owned()
    })
}

/// \[PE\] It is checked when a driver is loaded.
fn checksum(subject: &Subject<'_>) -> Vec<String> {
    let stored = subject.pe.optional_header().check_sum.get(LE);
    let right = subject.pe.checksum();
    expect(stored == right, || format!("{stored:#x} should be {right:#x}"))
}

/// The image says what its symbols are called, and not where they were.
fn symbols(subject: &Subject<'_>) -> Vec<String> {
    let expected = format!("{}.pdb", subject.name);
    let entries = subject.pe.debug.iter();
    let named: Vec<String> = entries
        .filter(|entry| entry.typ.get(LE) == pe::IMAGE_DEBUG_TYPE_CODEVIEW)
        .map(|entry| pdb_name(subject.pe, entry))
        .collect();
    expect(named == [expected.as_str()], || {
        format!("the image names {named:?} as its symbols, not {expected:?}")
    })
}

/// The path at the end of a `CodeView` record: `RSDS`, a GUID, an age, and a string.
fn pdb_name(pe: &Pe<'_>, entry: &ImageDebugDirectory) -> String {
    const STRING: usize = 4 + 16 + 4;
    let record = pe.at(entry.address_of_raw_data.get(LE), entry.size_of_data.get(LE)).unwrap_or_default();
    let string = record.strip_prefix(b"RSDS").and_then(|_| record.get(STRING..)).unwrap_or_default();
    String::from_utf8_lossy(string).trim_end_matches('\0').to_owned()
}

/// Neither file names a folder of the machine that it was built on.
fn paths(subject: &Subject<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (file, bytes) in [("sys", subject.sys), ("pdb", subject.pdb)] {
        for folder in subject.folders {
            let needle = format!("{}/", folder.display()).into_bytes();
            if let Some(offset) = bytes.windows(needle.len()).position(|window| window == needle) {
                found.push(format!(
                    "{}.{file} names {} at {offset:#x}; what reads it must be told to call it otherwise, as \
                     --remap-path-prefix does",
                    subject.name,
                    folder.display()
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        sound::{self, DATA, INIT, NAME, PDATA, RDATA, TEXT},
        *,
    };

    const FOLDER: &str = "/home/ann/drivers";

    /// A way to break a rule.
    struct Crime {
        rule: &'static str,
        /// Part of what is said about it.
        says: &'static str,
        commit: fn(&mut [u8]),
    }

    const fn crime(rule: &'static str, says: &'static str, commit: fn(&mut [u8])) -> Crime {
        Crime { rule, says, commit }
    }

    #[rustfmt::skip]
    const CRIMES: &[Crime] = &[
        crime("machine", "0x014c", |image| sound::nt(image).file_header.machine.set(LE, pe::IMAGE_FILE_MACHINE_I386)),
        crime("kind of file", "0x2022", |image| sound::nt(image).file_header.characteristics.set(LE, 0x22 | pe::IMAGE_FILE_DLL)),
        crime("kind of file", "0x0023", |image| sound::nt(image).file_header.characteristics.set(LE, 0x22 | pe::IMAGE_FILE_RELOCS_STRIPPED)),
        crime("subsystem", "3, version 10.0", |image| sound::nt(image).optional_header.subsystem.set(LE, pe::IMAGE_SUBSYSTEM_WINDOWS_CUI)),
        crime("subsystem", "1, version 6.0", |image| sound::nt(image).optional_header.major_subsystem_version.set(LE, 6)),
        crime("mitigations", "DYNAMIC_BASE", |image| clear(image, pe::IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE)),
        crime("mitigations", "HIGH_ENTROPY_VA", |image| clear(image, pe::IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA)),
        crime("mitigations", "NX_COMPAT", |image| clear(image, pe::IMAGE_DLLCHARACTERISTICS_NX_COMPAT)),
        crime("mitigations", "FORCE_INTEGRITY", |image| clear(image, pe::IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY)),
        crime("alignment", "0x800", |image| sound::nt(image).optional_header.section_alignment.set(LE, 0x800)),
        crime("alignment", "0x0", |image| sound::nt(image).optional_header.section_alignment.set(LE, 0)),
        crime("writable code", ".text", |image| characterize(image, 0, pe::IMAGE_SCN_MEM_WRITE)),
        crime("writable code", "INIT", |image| characterize(image, 4, pe::IMAGE_SCN_MEM_WRITE)),
        crime("import addresses", "no table", |image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_IAT, 0, 0)),
        crime("import addresses", ".text", |image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_IAT, TEXT, 16)),
        crime("import addresses", ".data", |image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_IAT, DATA, 16)),
        crime("import addresses", "no section", |image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_IAT, 0x9000, 16)),
        crime("entry point", "0x2000", |image| sound::nt(image).optional_header.address_of_entry_point.set(LE, RDATA)),
        crime("directories", "a table of exports", |image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_EXPORT, DATA, 40)),
        crime("directories", "thread-local", |image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_TLS, DATA, 40)),
        crime("directories", "delayed", |image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT, DATA, 32)),
        crime("directories", "no table of relocations", |image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_BASERELOC, 0, 0)),
        crime("unwind information", "none", |image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION, 0, 0)),
        crime("INIT", "discardable", |image| sound::section(image, 4).characteristics.set(LE, pe::IMAGE_SCN_MEM_READ | pe::IMAGE_SCN_MEM_EXECUTE)),
        crime("checksum", "0xdead should be", |image| sound::nt(image).optional_header.check_sum.set(LE, 0xdead)),
        crime("symbols", "none.pdb", |image| sound::name_symbols(image, "none.pdb")),
        crime("symbols", "C:", |image| sound::name_symbols(image, r"C:\sound.pdb")),
        crime("symbols", "[]", |image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_DEBUG, 0, 0)),
        crime("paths", "0x80b", |image| sound::put(image, DATA + 11, b"/home/ann/drivers/src/lib.rs")),
        crime("instructions", "x87 instructions: 1 of them, first Fld1 at 0x1020 in .text", |image| sound::put(image, TEXT + 0x20, &[0xd9, 0xe8])),
        crime("instructions", "MMX instructions: 1 of them, first Emms at 0x5000 in INIT", |image| sound::put(image, INIT, &[0x0f, 0x77])),
    ];

    fn clear(image: &mut [u8], flag: u16) {
        let flags = &mut sound::nt(image).optional_header.dll_characteristics;
        flags.set(LE, flags.get(LE) & !flag);
    }

    fn characterize(image: &mut [u8], section: u32, characteristic: u32) {
        let characteristics = &mut sound::section(image, section).characteristics;
        characteristics.set(LE, characteristics.get(LE) | characteristic);
    }

    fn violations_of(sys: &[u8], pdb: &[u8]) -> Vec<Violation> {
        let pe = Pe::parse(sys).expect("it is an image");
        violations(&Subject { name: NAME, pe: &pe, sys, pdb, folders: &[Path::new(FOLDER)] })
    }

    #[test]
    fn a_sound_image_keeps_every_rule() {
        assert_eq!(violations_of(&sound::image(), b"symbols"), []);
    }

    #[test]
    fn each_crime_breaks_its_rule_and_no_other() {
        for Crime { rule, says, commit } in CRIMES {
            let mut image = sound::image();
            commit(&mut image);
            if *rule != "checksum" {
                sound::seal(&mut image);
            }
            let found = violations_of(&image, b"symbols");
            let is_it = |violation: &Violation| violation.rule == *rule && violation.what.contains(says);
            assert!(found.len() == 1 && is_it(&found[0]), "{rule}, {says}: {found:?}");
        }
    }

    #[test]
    fn each_rule_has_a_crime() {
        let tested: BTreeSet<&str> = CRIMES.iter().map(|crime| crime.rule).collect();
        assert_eq!(tested, RULES.iter().map(|rule| rule.name).collect());
    }

    #[test]
    fn all_that_is_wrong_is_listed() {
        let mut image = sound::image();
        for Crime { commit, .. } in CRIMES.iter().take(4) {
            commit(&mut image);
        }
        let broken: Vec<&str> =
            violations_of(&image, b"symbols").iter().map(|violation| violation.rule).collect();
        assert_eq!(broken, ["machine", "kind of file", "subsystem", "checksum"]);
    }

    #[test]
    fn symbols_may_not_tell_where_they_were_made_either() {
        let found = violations_of(&sound::image(), b"lib /home/ann/drivers/target/a.lib");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].to_string().starts_with("paths: sound.pdb names /home/ann/drivers at 0x4;"),
            "{found:?}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_examined() {
        let spoilt = |spoil: fn(&mut Vec<u8>)| {
            let mut image = sound::image();
            spoil(&mut image);
            image
        };
        for (says, image) in [
            ("PE32+", spoilt(|image| image.truncate(0x20))),
            ("PE32+", spoilt(|image| sound::nt(image).optional_header.magic.set(LE, 0x10b))),
            (".reloc", spoilt(|image| image.truncate(0xf00))),
            (
                "0x5 bytes",
                spoilt(|image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION, PDATA, 5)),
            ),
            ("0x1c bytes", spoilt(|image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_DEBUG, 0x9000, 28))),
            ("imports", spoilt(|image| sound::direct(image, pe::IMAGE_DIRECTORY_ENTRY_IMPORT, 0x9000, 40))),
        ] {
            let error = Pe::parse(&image).expect_err(says);
            assert!(error.to_string().contains(says), "{says}: {error:#}");
        }
    }

    #[test]
    fn imports_are_listed_by_module() {
        let image = sound::image();
        assert_eq!(Pe::parse(&image).expect("it is an image").imports, ["ntoskrnl.exe!DbgPrintEx"]);
    }
}
