//! The source files that a build of a library is made of, found as the compiler finds them.
//!
//! Not simply all files of the folder: a file that the models do not compile holds nothing that they
//! could miss.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cfg::Configuration;
use crate::tokens::{Token, tokens};

/// One file of a library.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// Those that are compiled.
    pub(super) tokens: Vec<Token>,
}

/// The files of the library whose root is `root`, each before those that it declares.
pub(super) fn files(root: &Path, configuration: &Configuration) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let folder = root.parent().context("a crate root is in a folder")?;
    collect(root.to_owned(), folder, configuration, &mut files)?;
    Ok(files)
}

/// `folder` is where the modules that `path` declares are looked for.
fn collect(
    path: PathBuf,
    folder: &Path,
    configuration: &Configuration,
    files: &mut Vec<SourceFile>,
) -> Result<()> {
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let tokens = tokens(&text)
        .and_then(|tokens| configuration.compiled(&tokens))
        .with_context(|| format!("in {}", path.display()))?;
    let declared = declared(&tokens);
    let shown = path.display().to_string();
    files.push(SourceFile { path, text, tokens });
    for name in declared {
        let inner = folder.join(&name);
        let candidates = [folder.join(format!("{name}.rs")), inner.join("mod.rs")];
        let Some(file) = candidates.into_iter().find(|file| file.is_file()) else {
            bail!(
                "{shown} declares `mod {name};`, but there is neither {name}.rs nor {name}/mod.rs in {}: \
                 `#[path]`, and files declared inside of inline modules, are not followed here",
                folder.display()
            );
        };
        collect(file, &inner, configuration, files)?;
    }
    Ok(())
}

/// The names in `mod NAME;`.
fn declared(tokens: &[Token]) -> Vec<String> {
    let is_declaration = |three: &&[Token]| three[0].is("mod") && three[1].is_word() && three[2].is(";");
    tokens.windows(3).filter(is_declaration).map(|three| three[1].text.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_told_from_inline_modules() {
        let tokens = tokens("pub mod a; mod b { fn f() {} } mod c;").expect("these are tokens");
        assert_eq!(declared(&tokens), ["a", "c"]);
    }

    #[test]
    fn this_package_is_made_of_its_own_files() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let configuration = Configuration::new("test");
        let files = files(&source.join("lib.rs"), &configuration).expect("it compiles, so they are there");
        let has = |name: &str| files.iter().any(|file| file.path == source.join(name));
        assert!(has("lib.rs") && has("tokens.rs") && has("mutants/modules.rs"));
        assert!(!has("mutants/injected.rs"), "no module of this package");
    }
}
