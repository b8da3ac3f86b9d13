//! Names for addresses, from the `.pdb` that the linker wrote beside an image.
//!
//! `llvm-symbolizer` reads it. Names are for people who read a report, so nothing else depends on its being there.
#![forbid(unsafe_code)]

use std::{cell::RefCell, collections::BTreeMap, path::PathBuf, process::Command};

/// What is known of an image's functions.
#[derive(Debug)]
pub(super) struct Symbols {
    image: PathBuf,
    known: RefCell<BTreeMap<u32, Option<String>>>,
}

impl Symbols {
    pub(super) fn new(image: PathBuf) -> Self {
        Self { image, known: RefCell::default() }
    }

    /// The function with that instruction, and the line: `xenbus::upcall lib.rs:103`.
    pub(super) fn function(&self, rva: u32) -> Option<String> {
        self.known.borrow_mut().entry(rva).or_insert_with(|| self.ask(rva)).clone()
    }

    fn ask(&self, rva: u32) -> Option<String> {
        let mut symbolizer = Command::new("llvm-symbolizer");
        symbolizer.arg(format!("--obj={}", self.image.display()));
        symbolizer.args(["--relative-address", "--no-inlines", "--basenames", &format!("{rva:#x}")]);
        function(&String::from_utf8_lossy(&symbolizer.output().ok()?.stdout))
    }
}

/// What the tool says: a line with the function, and one with file, line and column. What it does not know is `??`.
fn function(text: &str) -> Option<String> {
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("??"));
    let function = lines.next()?;
    let line = lines.next().and_then(|place| place.rsplit_once(':')).map(|(line, _column)| line);
    Some(line.map_or_else(|| function.to_owned(), |line| format!("{function} {line}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_said() {
        assert_eq!(
            function("xenbus::upcall\nlib.rs:103:9\n\n").as_deref(),
            Some("xenbus::upcall lib.rs:103")
        );
        assert_eq!(function("memcpy\n??:0:0\n\n").as_deref(), Some("memcpy"));
        assert_eq!(function("??\n??:0:0\n\n"), None);
        assert_eq!(function(""), None);
    }

    #[test]
    fn an_image_without_symbols_has_no_names() {
        let symbols = Symbols::new("/nonexistent/xenbus.sys".into());
        assert_eq!(symbols.function(0x1000), None);
    }
}
