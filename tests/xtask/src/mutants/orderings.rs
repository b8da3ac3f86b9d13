//! Finds the memory orderings that the sources ask for, and says how each could be weaker.
//!
//! An ordering is found where it is an argument of a call, as in `state.fetch_or(QUEUED, AcqRel)`. One
//! that is named anywhere else could not be weakened by itself, and is an error: a site that is skipped
//! in silence looks like one that is tested.

use std::{collections::BTreeSet, fmt, ops::Range};

use anyhow::{Result, bail};

use crate::tokens::Token;

/// A memory ordering that can be weakened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    Acquire,
    Release,
    AcqRel,
    SeqCst,
}

/// What the argument is for. Only a read can acquire and only a write can release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Load,
    Store,
    Both,
}

/// One ordering in the sources.
#[derive(Debug)]
pub(super) struct Site {
    /// The whole argument, such as `Ordering::Acquire`.
    pub(super) bytes: Range<usize>,
    pub(super) line: usize,
    pub(super) strength: Strength,
    role: Role,
}

impl Strength {
    const ALL: [Self; 4] = [Self::Acquire, Self::Release, Self::AcqRel, Self::SeqCst];

    fn of(token: &Token) -> Option<Self> {
        Self::ALL.into_iter().find(|strength| token.is(&strength.to_string()))
    }
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Site {
    /// The names of the orderings that are one step weaker and still make sense there.
    pub(super) fn weaker(&self) -> &'static [&'static str] {
        match (self.strength, self.role) {
            (Strength::Acquire | Strength::Release, _) => &["Relaxed"],
            (Strength::AcqRel, _) => &["Acquire", "Release"],
            (Strength::SeqCst, Role::Load) => &["Acquire"],
            (Strength::SeqCst, Role::Store) => &["Release"],
            (Strength::SeqCst, Role::Both) => &["AcqRel"],
        }
    }
}

/// The orderings in the tokens of one file, in their order.
pub(super) fn sites(tokens: &[Token]) -> Result<Vec<Site>> {
    let mut imported = BTreeSet::new();
    let mut sites = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        if begins_import(tokens, index) {
            let end = (index..tokens.len()).find(|&at| tokens[at].is(";")).unwrap_or(tokens.len());
            imported.extend(imported_by(&tokens[index..end]));
            index = end;
        } else if let Some(strength) = Strength::of(&tokens[index])
            && let Some(start) = start_of_ordering(tokens, index, imported.contains(&strength.to_string()))
        {
            sites.push(site(tokens, start, index, strength)?);
        }
        index += 1;
    }
    Ok(sites)
}

/// `use` with a path; the `use<..>` of a captured lifetime is something else.
fn begins_import(tokens: &[Token], index: usize) -> bool {
    tokens[index].is("use") && tokens.get(index + 1).is_some_and(|next| !next.is("<"))
}

/// The orderings that a `use` of these tokens makes known by their bare names.
fn imported_by(import: &[Token]) -> Vec<String> {
    if !import.iter().any(|token| token.is("Ordering")) {
        return Vec::new();
    }
    let all = import.iter().any(|token| token.is("*"));
    let named = |strength: &Strength| all || import.iter().any(|token| token.is(&strength.to_string()));
    Strength::ALL.iter().filter(|strength| named(strength)).map(Strength::to_string).collect()
}

/// Where the path that ends at `index` begins, if it names an ordering and not something else of that name.
fn start_of_ordering(tokens: &[Token], index: usize, is_imported: bool) -> Option<usize> {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.is(text));
    let follows_path = |at: usize| at >= 3 && is(at - 1, ":") && is(at - 2, ":") && tokens[at - 3].is_word();
    if !follows_path(index) {
        return is_imported.then_some(index);
    }
    if !is(index - 3, "Ordering") {
        return None;
    }
    let mut start = index;
    while follows_path(start) {
        start -= 3;
    }
    Some(start)
}

fn site(tokens: &[Token], start: usize, end: usize, strength: Strength) -> Result<Site> {
    let line = tokens[end].line;
    let is = |at: Option<usize>, texts: [&str; 2]| {
        at.and_then(|at| tokens.get(at)).is_some_and(|token| texts.contains(&token.text.as_str()))
    };
    let whole = is(start.checked_sub(1), ["(", ","]) && is(Some(end + 1), [")", ","]);
    let Some((callee, position)) = call_around(tokens, start).filter(|_| whole) else {
        bail!(
            "line {line}: `{strength}` is not an argument of a call by itself, so it cannot be weakened by itself; \
             write the ordering into the call"
        );
    };
    let role = match (callee, position) {
        ("load", _) | ("compare_exchange" | "compare_exchange_weak", 3) | ("fetch_update", 1) => Role::Load,
        ("store", _) => Role::Store,
        ("fence" | "compiler_fence", _) => bail!(
            "line {line}: a fence cannot be weakened step by step; prefer an ordering on an atomic operation, \
             or teach `cargo xtask mutants` to take a fence away"
        ),
        _ => Role::Both,
    };
    Ok(Site { bytes: tokens[start].bytes.start..tokens[end].bytes.end, line, strength, role })
}

/// The function whose arguments stand around `index`, and which of them it is, from zero.
fn call_around(tokens: &[Token], index: usize) -> Option<(&str, usize)> {
    let mut depth = 0_usize;
    let mut commas = 0;
    for at in (0..index).rev() {
        match tokens[at].text.as_str() {
            ")" | "]" | "}" => depth += 1,
            "," if depth == 0 => commas += 1,
            "(" if depth == 0 => {
                let callee = &tokens[at.checked_sub(1)?];
                return callee.is_word().then_some((callee.text.as_str(), commas));
            }
            "[" | "{" if depth == 0 => return None,
            "(" | "[" | "{" => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    const IMPORT: &str =
        "use core::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};\n";

    fn found(source: &str) -> Result<Vec<String>> {
        let sites = sites(&tokens(source).expect("these are tokens"))?;
        Ok(sites
            .iter()
            .map(|site| format!("{} {} {}", site.line, &source[site.bytes.clone()], site.weaker().join("|")))
            .collect())
    }

    fn found_after_import(source: &str) -> Vec<String> {
        found(&format!("{IMPORT}{source}")).expect("every ordering is an argument")
    }

    #[test]
    fn arguments_are_found_wherever_the_lines_break() {
        let source = "\
fn f(s: &S) -> bool {
    // Release here is only a word; \"Acquire\" too.
    s.head
        .compare_exchange_weak(
            a(1, 2),
            b,
            Release,
            Acquire,
        )
        .is_ok() && s.x.load(Relaxed) == s.x.fetch_or(QUEUED, AcqRel)
}";
        assert_eq!(
            found_after_import(source),
            ["8 Release Relaxed", "9 Acquire Relaxed", "11 AcqRel Acquire|Release"]
        );
    }

    #[test]
    fn paths_are_taken_whole() {
        let source =
            "fn f() { s.load(Ordering::Acquire); s.store(1, core::sync::atomic::Ordering::Release) }";
        assert_eq!(
            found(source).expect("both are arguments"),
            ["1 Ordering::Acquire Relaxed", "1 core::sync::atomic::Ordering::Release Relaxed"]
        );
    }

    #[test]
    fn sequential_consistency_weakens_to_what_the_operation_can_have() {
        let source =
            "s.load(SeqCst); s.store(0, SeqCst); s.swap(0, SeqCst); s.fetch_update(SeqCst, SeqCst, f);
            s.compare_exchange(a, b, SeqCst, SeqCst);";
        let weaker: Vec<String> = found_after_import(source)
            .iter()
            .map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(weaker, ["Acquire", "Release", "AcqRel", "AcqRel", "Acquire", "AcqRel", "Acquire"]);
    }

    #[test]
    fn other_things_of_the_same_name_are_none() {
        assert!(
            found("struct Acquire; fn f() { g(Acquire); h(lock::Release) }").expect("no ordering").is_empty()
        );
        assert!(found_after_import("fn f(k: Kind) { g(Kind::Release) }").is_empty());
    }

    #[test]
    fn captured_lifetimes_are_no_import() {
        let source = "fn f<'a>() -> impl Sized + use<'a> { s.load(Acquire); }";
        assert_eq!(found_after_import(source), ["2 Acquire Relaxed"]);
    }

    #[test]
    fn an_ordering_out_of_reach_is_an_error() {
        for source in [
            "const PUSH: Ordering = Release;",
            "fn f() { s.load(if a { Acquire } else { Relaxed }) }",
            "fn f() { let pair = (Acquire, 1); }",
            "fn f() { s.load(pick![Acquire]) }",
            "fn f() { fence(Release) }",
        ] {
            let error = found(&format!("{IMPORT}{source}")).expect_err(source);
            assert!(error.to_string().starts_with("line 2: "), "{source}: {error}");
        }
    }
}
