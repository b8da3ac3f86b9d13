//! Import libraries, made from the committed `.def` files.
//!
//! A `.def` file lists what a kernel module of the oldest supported Windows exports and we use. It is the
//! language of the Microsoft linker ("Module-Definition (.Def) Files"), cut down to what is needed here, and
//! with one addition: each name comes with a comment that says since when it is exported, and where that is
//! documented.
//!
//! ```text
//! LIBRARY "ntoskrnl.exe"
//! EXPORTS
//!     KeInsertQueueDpc ; since Windows 2000 (wdm.h)
//! ```

use std::{
    collections::BTreeSet,
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use ar_archive_writer::{COFFShortExport, MachineTypes, write_import_library};

/// Where the `.def` files are, from the top of the repository.
pub(super) const FOLDER: &str = "kexec/nt-sys/def";

/// The releases that a name may have been exported since, the newest last: the oldest that we support.
const RELEASES: &[&str] = &[
    "Windows 2000",
    "Windows XP",
    "Windows Server 2003",
    "Windows Vista",
    "Windows 7",
    "Windows 8",
    "Windows 8.1",
    "Windows 10",
    "Windows 10 1511",
    "Windows 10 1607",
    "Windows 10 1703",
    "Windows 10 1709",
    "Windows 10 1803",
    "Windows 10 1809",
];

/// What one file says.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    /// The module that exports, as the loader knows it: `ntoskrnl.exe`.
    library: String,
    /// The names that it exports, in the order of the file.
    exports: Vec<String>,
}

/// Makes an import library in `folder` from each `.def` file of the sources at `root`; their names, sorted.
///
/// # Errors
///
/// There is no such file, or one cannot be understood.
pub(super) fn import_libraries(root: &Path, folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in definitions(root)? {
        let module = read(root, &path)?;
        let name = path.with_extension("lib").file_name().unwrap_or_default().to_string_lossy().into_owned();
        let library = module.import_library().with_context(|| format!("could not make {name}"))?;
        fs::write(folder.join(&name), library).with_context(|| format!("could not write {name}"))?;
        names.push(name);
    }
    Ok(names)
}

fn definitions(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join(FOLDER);
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "def") {
            paths.push(path);
        }
    }
    ensure!(!paths.is_empty(), "there is no .def file in {FOLDER}: they say what a driver may import");
    paths.sort();
    Ok(paths)
}

fn read(root: &Path, path: &Path) -> Result<Module> {
    let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    Module::parse(&path.strip_prefix(root).unwrap_or(path).display().to_string(), &text)
}

impl Module {
    /// Reads the text of the file called `file`. Nothing is skipped but comments on lines of their own.
    fn parse(file: &str, text: &str) -> Result<Self> {
        let mut library = None;
        let mut exports = Vec::new();
        let mut seen = BTreeSet::new();
        let mut in_exports = false;
        for (number, line) in (1..).zip(text.lines()) {
            let (statement, comment) = line.split_once(';').map_or((line, None), |(s, c)| (s, Some(c)));
            let place = || format!("{file}:{number}: `{}`", line.trim());
            match *statement.split_whitespace().collect::<Vec<_>>() {
                [] => {}
                ["LIBRARY", name] if library.is_none() => library = Some(name.trim_matches('"').to_owned()),
                ["EXPORTS"] if library.is_some() && !in_exports => in_exports = true,
                [name] if in_exports && is_name(name) => {
                    check_date(comment.unwrap_or_default()).with_context(place)?;
                    ensure!(seen.insert(name), "{}: `{name}` is in the list twice", place());
                    exports.push(name.to_owned());
                }
                _ => bail!(
                    "{}: expected `LIBRARY \"module\"`, then `EXPORTS`, then one name a line with its comment",
                    place()
                ),
            }
        }
        let library = library.with_context(|| format!("{file}: the line `LIBRARY \"module\"` is missing"))?;
        ensure!(!exports.is_empty(), "{file}: no name stands under `EXPORTS`");
        Ok(Self { library, exports })
    }

    fn import_library(&self) -> Result<Vec<u8>> {
        let exports: Vec<COFFShortExport> = self.exports.iter().map(|name| by_name(name)).collect();
        let mut library = Cursor::new(Vec::new());
        write_import_library(
            &mut library,
            &self.library,
            &exports,
            MachineTypes::AMD64,
            false, // not for MinGW
            false, // nor for /WHOLEARCHIVE
            &[],   // nor for ARM64X
        )?;
        Ok(library.into_inner())
    }
}

/// As a C compiler would take it.
fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether the comment is `since RELEASE (source)`, and the release not later than the oldest that we support.
fn check_date(comment: &str) -> Result<()> {
    let parts = comment.trim().strip_prefix("since ").and_then(|rest| rest.split_once(" ("));
    let (release, _) = parts
        .filter(|(_, source)| source.len() > 1 && source.ends_with(')'))
        .context("the comment must be `; since RELEASE (where that is documented)`")?;
    ensure!(
        RELEASES.contains(&release),
        "`{release}` is none of the releases up to the oldest that we support: {}; what a later one exports is \
         looked up at run time with MmGetSystemRoutineAddress",
        RELEASES.join(", ")
    );
    Ok(())
}

fn by_name(name: &str) -> COFFShortExport {
    COFFShortExport {
        name: name.to_owned(),
        ext_name: None,
        symbol_name: None,
        import_name: None,
        export_as: None,
        ordinal: 0,
        noname: false,
        data: false,
        private: false,
        constant: false,
    }
}

#[cfg(test)]
mod tests {
    use object::read::archive::ArchiveFile;

    use super::*;

    const KERNEL: &str = "\
; What the kernel exports.
LIBRARY \"ntoskrnl.exe\"

EXPORTS
    __chkstk         ; since Windows Vista (the x64 ABI)
    KeInsertQueueDpc ; since Windows 10 1809 (wdm.h; really earlier)
";

    #[test]
    fn a_definition_is_read() {
        let module = Module::parse("nt.def", KERNEL).expect("it is well-formed");
        let exports = vec!["__chkstk".to_owned(), "KeInsertQueueDpc".to_owned()];
        assert_eq!(module, Module { library: "ntoskrnl.exe".to_owned(), exports });
    }

    #[test]
    fn the_import_library_offers_the_names_of_the_definition() {
        let module = Module::parse("nt.def", KERNEL).expect("it is well-formed");
        let library = module.import_library().expect("it can be made");
        let archive = ArchiveFile::parse(&*library).expect("it is an archive");
        let symbols: Vec<String> = archive
            .symbols()
            .expect("it has a table of symbols")
            .expect("it has a table of symbols")
            .map(|symbol| String::from_utf8_lossy(symbol.expect("a symbol").name()).into_owned())
            .collect();
        for name in ["__imp___chkstk", "__chkstk", "__imp_KeInsertQueueDpc", "KeInsertQueueDpc"] {
            assert!(symbols.iter().any(|symbol| symbol == name), "{name} is not in {symbols:?}");
        }
    }

    #[test]
    fn whatever_else_stands_there_is_an_error_with_its_place() {
        let head = "LIBRARY \"hal.dll\"\nEXPORTS\n";
        let dated = "; since Windows 7 (wdm.h)";
        for (text, parts) in [
            (format!("{head}KeA\n"), ["nt.def:3: `KeA`", "since RELEASE"]),
            (format!("{head}KeA ; exported for ages (wdm.h)\n"), ["nt.def:3", "since RELEASE"]),
            (format!("{head}KeA ; since Windows 7\n"), ["nt.def:3", "since RELEASE"]),
            (format!("{head}KeA ; since Windows 7 ()\n"), ["nt.def:3", "since RELEASE"]),
            (format!("{head}KeA ; since Windows 10 2004 (wdm.h)\n"), ["`Windows 10 2004`", "MmGetSystem"]),
            (format!("{head}KeA {dated}\nKeA {dated}\n"), ["nt.def:4", "twice"]),
            (format!("{head}KeA @ 7 {dated}\n"), ["nt.def:3", "expected"]),
            (format!("{head}KeA DATA {dated}\n"), ["nt.def:3", "expected"]),
            (format!("{head}KeA=KeB {dated}\n"), ["nt.def:3", "expected"]),
            (format!("{head}LIBRARY \"b.sys\"\n"), ["nt.def:3", "expected"]),
            (format!("EXPORTS\nKeA {dated}\n"), ["nt.def:1", "expected"]),
            (format!("LIBRARY \"hal.dll\"\nKeA {dated}\n"), ["nt.def:2", "expected"]),
            ("; nothing\n".to_owned(), ["nt.def", "LIBRARY"]),
            (head.to_owned(), ["nt.def", "EXPORTS"]),
        ] {
            let error = Module::parse("nt.def", &text).expect_err(&text);
            let message = format!("{error:#}");
            assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
        }
    }

    #[test]
    fn the_committed_definitions_are_understood() {
        let root = crate::host::Host::find().expect("the tests run in the repository").root().to_owned();
        for path in definitions(&root).expect("there are some") {
            read(&root, &path).expect("it is well-formed");
        }
    }
}
