//! The copy of the sources that the mutants are put into: a workspace with the models as its only member.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use toml::{Table, Value};

/// Where the library lives, with the texts that its documentation includes.
const PACKAGE: &str = "kexec";
/// The library whose orderings are weakened, from the top of the repository.
pub(super) const LIBRARY: &str = "kexec/src";
/// The package of the models, whose library is compiled from [`LIBRARY`].
pub(super) const MODELS: &str = "tests/loom";

/// Copies what the models are built from. An older copy is replaced.
pub(super) fn copy(root: &Path, tree: &Path) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree).with_context(|| format!("could not remove {}", tree.display()))?;
    }
    for folder in [PACKAGE, MODELS] {
        copy_folder(&root.join(folder), &tree.join(folder))?;
    }
    // Without it, the models might be built with other versions of their dependencies.
    copy_file(&root.join("Cargo.lock"), &tree.join("Cargo.lock"))?;
    let manifest = root.join("Cargo.toml");
    let text =
        fs::read_to_string(&manifest).with_context(|| format!("could not read {}", manifest.display()))?;
    let text = alone(&text).with_context(|| format!("in {}", manifest.display()))?;
    fs::write(tree.join("Cargo.toml"), text).context("could not write the manifest of the copy")
}

/// The manifest of the workspace with one member, and without lints: they are for people's code.
fn alone(manifest: &str) -> Result<String> {
    let mut manifest: Table = manifest.parse()?;
    let workspace =
        manifest.get_mut("workspace").and_then(Value::as_table_mut).context("there is no [workspace]")?;
    workspace.insert("members".to_owned(), Value::Array(vec![MODELS.into()]));
    let silent = Table::from_iter([("warnings".to_owned(), "allow".into())]);
    let lints = Table::from_iter([("rust".to_owned(), Value::Table(silent))]);
    workspace.insert("lints".to_owned(), Value::Table(lints));
    workspace.remove("exclude");
    workspace.remove("default-members");
    Ok(manifest.to_string())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("could not create {}", to.display()))?;
    let entries = fs::read_dir(from).with_context(|| format!("could not read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if !entry.file_type()?.is_dir() {
            copy_file(&from, &to)?;
        } else if entry.file_name() != "target" {
            copy_folder(&from, &to)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("could not copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_are_the_only_member_and_inherit_as_before() {
        let manifest = "\
            [workspace]\nmembers = [\"kexec\", \"tests/*\"]\n\
            [workspace.package]\nedition = \"2024\"\n\
            [workspace.lints.rust]\nmissing_docs = \"deny\"\n\
            [profile.loom]\ninherits = \"release\"\n";
        let alone: Table = alone(manifest).expect("a workspace").parse().expect("still a manifest");
        assert_eq!(alone["workspace"]["members"], Value::Array(vec![MODELS.into()]));
        assert_eq!(alone["workspace"]["package"]["edition"].as_str(), Some("2024"));
        assert!(!alone["workspace"]["lints"].to_string().contains("deny"));
        assert_eq!(alone["profile"]["loom"]["inherits"].as_str(), Some("release"));
    }

    #[test]
    fn a_manifest_without_a_workspace_is_an_error() {
        assert!(alone("[package]\nname = \"x\"\n").is_err());
    }
}
