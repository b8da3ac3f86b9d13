//! Writes the switches for all mutants into the copy of the library.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail};

use super::{
    cfg::Configuration,
    modules::{self, SourceFile},
    orderings::{self, Site},
    structural::Structural,
    tree, wrap,
};

/// Platforms run on a host: their orderings are not kexec's, and loom does not run them.
const EXEMPT: &str = "kexec/src/platform";

/// One way to spoil the library.
#[derive(Debug)]
pub(super) struct Mutant {
    /// What turns it on.
    pub(super) key: String,
    /// What a model notes when it comes by.
    pub(super) site: String,
    /// For the reader: where it is, and what changes.
    pub(super) label: String,
}

/// Makes every mutant of the library in `tree` and changes its files accordingly.
pub(super) fn all(tree: &Path, configuration: &Configuration, by_hand: &[Structural]) -> Result<Vec<Mutant>> {
    check_names(by_hand)?;
    let library = tree.join(tree::LIBRARY);
    let mut left: BTreeMap<&str, Vec<&Structural>> = BTreeMap::new();
    for entry in by_hand {
        left.entry(entry.file).or_default().push(entry);
    }
    let mut injection = Injection::default();
    for file in modules::files(&library.join("lib.rs"), configuration)? {
        let name = file.path.strip_prefix(tree).unwrap_or(&file.path).to_string_lossy().into_owned();
        let by_hand = left.remove(name.as_str()).unwrap_or_default();
        injection.file(&file, &name, &by_hand).with_context(|| format!("in {name}"))?;
    }
    if let Some((file, entries)) = left.first_key_value() {
        bail!("the mutant `{}` no longer applies: the models do not compile {file}", entries[0].name);
    }
    add_module(&library)?;
    Ok(injection.mutants)
}

/// The mutants so far.
#[derive(Default)]
struct Injection {
    mutants: Vec<Mutant>,
    /// The number of the next ordering.
    site: usize,
}

impl Injection {
    fn file(&mut self, file: &SourceFile, name: &str, by_hand: &[&Structural]) -> Result<()> {
        let mut wraps = Vec::new();
        for entry in by_hand {
            let (bytes, line) = wrap::find_once(&file.tokens, entry.original)
                .with_context(|| format!("the mutant `{}` no longer applies", entry.name))?;
            wraps.push(wrap::around_expression(bytes, entry.name, entry.replacement));
            self.mutants.push(Mutant::structural(entry, line));
        }
        if !Path::new(name).starts_with(EXEMPT) {
            for site in orderings::sites(&file.tokens)? {
                wraps.push(wrap::around_ordering(site.bytes.clone(), self.site));
                self.mutants.extend(
                    site.weaker().iter().map(|weaker| Mutant::ordering(self.site, name, &site, weaker)),
                );
                self.site += 1;
            }
        }
        if wraps.is_empty() {
            return Ok(());
        }
        write(&file.path, &wrap::apply(&file.text, wraps)?)
    }
}

impl Mutant {
    fn ordering(number: usize, file: &str, site: &Site, weaker: &str) -> Self {
        let label = format!("{file}:{} {} -> {weaker}", site.line, site.strength);
        Self { key: format!("{number}:{weaker}"), site: number.to_string(), label }
    }

    fn structural(entry: &Structural, line: usize) -> Self {
        let label = format!("{}:{line} {}", entry.file, entry.name);
        Self { key: entry.name.to_owned(), site: entry.name.to_owned(), label }
    }
}

/// A name is a key in the environment, where an ordering is `NUMBER:ORDERING`.
fn check_names(structural: &[Structural]) -> Result<()> {
    let mut names = BTreeSet::new();
    for Structural { name, .. } in structural {
        let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !is_plain {
            bail!("`{name}` is no name for a mutant: use letters, digits and hyphens, a letter first");
        }
        if !names.insert(*name) {
            bail!("two mutants are called `{name}`");
        }
    }
    Ok(())
}

/// Makes `injected.rs` a module of the copied library.
fn add_module(library: &Path) -> Result<()> {
    let root = library.join("lib.rs");
    let text = fs::read_to_string(&root).with_context(|| format!("could not read {}", root.display()))?;
    write(&root, &format!("{text}\nmod mutate;\n"))?;
    write(&library.join("mutate.rs"), include_str!("injected.rs"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &'static str) -> Structural {
        Structural { name, file: "a.rs", original: "a", replacement: "b" }
    }

    #[test]
    fn a_name_is_not_taken_for_an_ordering_or_twice() {
        assert!(check_names(&[named("wake-elided"), named("park2")]).is_ok());
        let message = |names: &[Structural]| check_names(names).expect_err("a bad name").to_string();
        assert!(message(&[named("3:Relaxed")]).contains("`3:Relaxed`"));
        assert!(message(&[named("3")]).contains("`3`"));
        assert!(message(&[named("")]).contains("``"));
        assert!(message(&[named("a"), named("a")]).contains("two mutants are called `a`"));
    }
}
