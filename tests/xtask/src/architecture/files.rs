//! What a file must say of itself, how long it may be, and where it may be.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::rooms::FOLDERS;
use crate::tokens::{Token, closing, tokens};

/// The libraries whose files each say whether they use `unsafe`.
const DECLARED: &[&str] = &["kexec/src", "xenbus/src"];

/// The only files of `xenbus/src` that use `unsafe`, each for a reason that no other has: so few can be read as one.
pub const XENBUS_UNSAFE: [&str; 6] = [
    "xenbus/src/cell.rs",
    "xenbus/src/grant/share.rs",
    "xenbus/src/hypercall/command.rs",
    "xenbus/src/page.rs",
    "xenbus/src/x86/native.rs",
    "xenbus/src/x86/privileged.rs",
];

/// How long a file of Rust may be, in lines.
pub const LONGEST: usize = 800;

/// What breaks a rule in the repository at `root`, one sentence each.
///
/// # Errors
///
/// A file cannot be read.
pub fn violations(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("could not read {}", root.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(unknown_folder(&entry.file_name().to_string_lossy()));
        }
    }
    let mut missing = XENBUS_UNSAFE.to_vec();
    for path in rust_files(root)? {
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path);
        let shown = name.to_string_lossy();
        found.extend(too_long(&shown, &text));
        if DECLARED.iter().any(|library| name.starts_with(library)) {
            found.extend(undeclared(&shown, &text).with_context(|| format!("in {shown}"))?);
        }
        if name.starts_with("xenbus/src") {
            found.extend(unlisted(&shown, &text).with_context(|| format!("in {shown}"))?);
            missing.retain(|listed| *listed != shown);
        }
    }
    found.extend(missing.into_iter().map(|name| format!("{name} is in `XENBUS_UNSAFE`, and is not there")));
    Ok(found)
}

/// A folder at the top that is none of the known ones. Hidden ones and build output do not count.
#[must_use]
pub fn unknown_folder(name: &str) -> Option<String> {
    let known = name.starts_with('.') || name == "target" || FOLDERS.contains(&name);
    (!known).then(|| match name {
        "docs" => "docs/ is at the top: documentation lives beside the crate that it explains".to_owned(),
        _ => format!("{name}/ is at the top, where there are only {}", FOLDERS.join(", ")),
    })
}

/// A file of so many lines that it can hardly be about one thing.
#[must_use]
pub fn too_long(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LONGEST).then(|| format!("{name} has {lines} lines, more than {LONGEST}"))
}

/// A file that does not say in its first lines whether it uses `unsafe`.
///
/// The crate root denies it for all; each other file either forbids it or expects it, with the reason;
/// one that only stands above such files denies it. The files that expect it are the ones to read for soundness.
///
/// # Errors
///
/// The text is not Rust.
pub fn undeclared(name: &str, text: &str) -> Result<Option<String>> {
    let tokens = tokens(text)?;
    let says = |lint: &str| head(&tokens).iter().any(|attribute| is_about_unsafe(attribute, lint));
    let reason = |attribute: &&[Token]| attribute.iter().any(|token| token.is("reason"));
    let expects = || head(&tokens).iter().any(|one| is_about_unsafe(one, "expect") && reason(&&**one));
    let is_above_others = || tokens.windows(3).any(|three| three[0].is("mod") && three[2].is(";"));
    let says_so = || says("forbid") || expects() || says("deny") && is_above_others();
    Ok(if name.ends_with("src/lib.rs") {
        (!says("deny"))
            .then(|| format!("{name} must begin with `#![deny(unsafe_code)]`, being the crate root"))
    } else {
        (!says_so()).then(|| {
            format!(
                "{name} must begin with `#![forbid(unsafe_code)]`, or with `#![expect(unsafe_code, reason = \"..\")]` \
                 if it cannot do without, or with `#![deny(unsafe_code)]` if only files below it cannot"
            )
        })
    })
}

/// A file of `xenbus/src` that uses `unsafe` and is not one of [`XENBUS_UNSAFE`], or the other way round.
///
/// # Errors
///
/// The text is not Rust.
pub fn unlisted(name: &str, text: &str) -> Result<Option<String>> {
    let uses = tokens(text)?.iter().any(|token| token.is("unsafe"));
    Ok(match (uses, XENBUS_UNSAFE.contains(&name)) {
        (true, false) => Some(format!(
            "{name} uses `unsafe`, which is in {} alone: let one of them answer for it",
            XENBUS_UNSAFE.join(", ")
        )),
        (false, true) => Some(format!("{name} is in `XENBUS_UNSAFE`, and uses no `unsafe`: strike it out")),
        _ => None,
    })
}

/// The attributes `#![..]` that a file begins with, each from after its bracket to before it.
fn head(tokens: &[Token]) -> Vec<&[Token]> {
    let mut attributes = Vec::new();
    let mut rest = tokens;
    while let [hash, bang, bracket, ..] = rest
        && hash.is("#")
        && bang.is("!")
        && bracket.is("[")
    {
        let close = closing(rest, 2);
        attributes.push(&rest[3..close]);
        rest = &rest[close + 1..];
    }
    attributes
}

/// Whether it is `lint(.., unsafe_code, ..)`.
fn is_about_unsafe(attribute: &[Token], lint: &str) -> bool {
    attribute.first().is_some_and(|first| first.is(lint))
        && attribute.iter().any(|token| token.is("unsafe_code"))
}

/// Every file of Rust in the repository, but not in hidden folders or build output.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}
