//! The committed list of what each image imports.
//!
//! An import is a dependency on the oldest Windows that we support, and on what the simulated one has to offer;
//! so a new one is a line in a diff that somebody has read.

use std::{collections::BTreeSet, fs, io::ErrorKind, path::Path};

use anyhow::{Context, Result};

/// What came and what went since the list was committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The list, from the top of the repository.
    file: &'static str,
    lines: Vec<String>,
}

/// Compares the imports with the list in `file`. A list that is not there yet is an empty one.
///
/// # Errors
///
/// It cannot be read.
pub(super) fn change(root: &Path, file: &'static str, imports: &[String]) -> Result<Option<Change>> {
    let committed = match fs::read_to_string(root.join(file)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("could not read {file}")),
    };
    let lines = differences(&committed, imports);
    Ok((!lines.is_empty()).then_some(Change { file, lines }))
}

/// Writes the list.
///
/// # Errors
///
/// It cannot be written.
pub(super) fn bless(root: &Path, file: &str, imports: &[String]) -> Result<()> {
    fs::write(root.join(file), text(imports)).with_context(|| format!("could not write {file}"))
}

impl Change {
    /// What it means for a build that was to leave everything as it is.
    pub(super) fn complaint(&self) -> String {
        format!(
            "imports: they are not those in {}:\n{}\n  `cargo xtask dist --bless` rewrites the list; look at the difference \
             before you commit it",
            self.file,
            self.shown()
        )
    }

    /// What it means for a build that was to accept it.
    pub(super) fn note(&self) -> String {
        format!("{} is rewritten:\n{}", self.file, self.shown())
    }

    fn shown(&self) -> String {
        self.lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

/// One import a line.
fn text(imports: &[String]) -> String {
    imports.iter().flat_map(|import| [import, "\n"]).collect()
}

/// Lines that came, with a plus, and lines that went, with a minus; sorted by import. Or, if the list has the
/// right lines in another form, that.
fn differences(committed: &str, imports: &[String]) -> Vec<String> {
    let old: BTreeSet<&str> = committed.lines().collect();
    let new: BTreeSet<&str> = imports.iter().map(String::as_str).collect();
    let mut lines: Vec<(&str, char)> = new.difference(&old).map(|&line| (line, '+')).collect();
    lines.extend(old.difference(&new).map(|&line| (line, '-')));
    lines.sort_unstable();
    let mut lines: Vec<String> = lines.iter().map(|(line, sign)| format!("{sign} {line}")).collect();
    if lines.is_empty() && committed != text(imports) {
        lines.push("the right lines, but not each once and in order".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Vec<String> {
        ["hal.dll!KeQueryPerformanceCounter", "ntoskrnl.exe!DbgPrintEx", "ntoskrnl.exe!memset"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn the_committed_list_is_what_would_be_written() {
        assert_eq!(differences(&text(&now()), &now()), [""; 0]);
    }

    #[test]
    fn what_came_and_what_went_are_told_apart() {
        let committed =
            "hal.dll!KeQueryPerformanceCounter\nntoskrnl.exe!IoDeleteDevice\nntoskrnl.exe!memset\n";
        assert_eq!(
            differences(committed, &now()),
            ["+ ntoskrnl.exe!DbgPrintEx", "- ntoskrnl.exe!IoDeleteDevice"]
        );
    }

    #[test]
    fn a_list_that_is_not_sorted_does_not_pass() {
        let mut turned = now();
        turned.reverse();
        assert_eq!(differences(&text(&turned), &now()).len(), 1);
        let twice = text(&now()) + "ntoskrnl.exe!memset\n";
        assert_eq!(differences(&twice, &now()).len(), 1);
    }

    #[test]
    fn a_complaint_says_where_and_what_to_do() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let change = change(root, "no-such-list.txt", &now()).expect("missing is empty").expect("all is new");
        let complaint = change.complaint();
        for part in ["no-such-list.txt", "+ ntoskrnl.exe!memset", "cargo xtask dist --bless"] {
            assert!(complaint.contains(part), "{complaint}");
        }
    }
}
