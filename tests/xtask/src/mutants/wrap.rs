//! Finds expressions in a source text and puts switches around them.

use std::ops::Range;

use anyhow::{Result, bail};

use crate::tokens::{Token, tokens};

/// Text to put around a part of a source.
#[derive(Debug)]
pub(super) struct Wrap {
    pub(super) bytes: Range<usize>,
    pub(super) before: String,
    pub(super) after: &'static str,
}

/// Weakens nothing until it is told to: see `injected.rs`.
pub(super) fn around_ordering(bytes: Range<usize>, number: usize) -> Wrap {
    Wrap { bytes, before: format!("crate::mutate::order({number}, "), after: ")" }
}

/// Chooses between two expressions.
pub(super) fn around_expression(bytes: Range<usize>, name: &str, replacement: &str) -> Wrap {
    let before = format!("(if crate::mutate::is({name:?}) {{ {replacement} }} else {{ ");
    Wrap { bytes, before, after: " })" }
}

/// Where `wanted` stands among the tokens of a source; it must stand there exactly once.
pub(super) fn find_once(source: &[Token], wanted: &str) -> Result<(Range<usize>, usize)> {
    let wanted = tokens(wanted)?;
    if wanted.is_empty() {
        bail!("it is empty");
    }
    let same = |window: &&[Token]| window.iter().zip(&wanted).all(|(a, b)| a.is(&b.text));
    let mut found = source.windows(wanted.len()).filter(same);
    match (found.next(), found.count()) {
        (Some([first, .., last]), 0) => Ok((first.bytes.start..last.bytes.end, first.line)),
        (Some([only]), 0) => Ok((only.bytes.clone(), only.line)),
        (None, _) => bail!("it is not there"),
        (_, others) => bail!("it is there {} times", others + 1),
    }
}

/// Applies the wraps, which may contain one another but not overlap.
pub(super) fn apply(text: &str, mut wraps: Vec<Wrap>) -> Result<String> {
    // Outer ones first; among equals the first one is the outermost.
    wraps.sort_by_key(|wrap| (wrap.bytes.start, std::cmp::Reverse(wrap.bytes.end)));
    let mut result = String::new();
    let mut copied = 0;
    let mut open: Vec<&Wrap> = Vec::new();
    for wrap in &wraps {
        while let Some(inner) = open.pop_if(|inner| inner.bytes.end <= wrap.bytes.start) {
            result.push_str(&text[copied..inner.bytes.end]);
            result.push_str(inner.after);
            copied = inner.bytes.end;
        }
        if open.last().is_some_and(|outer| outer.bytes.end < wrap.bytes.end) {
            bail!("two mutants overlap at `{}`", &text[wrap.bytes.clone()]);
        }
        result.push_str(&text[copied..wrap.bytes.start]);
        result.push_str(&wrap.before);
        copied = wrap.bytes.start;
        open.push(wrap);
    }
    for inner in open.into_iter().rev() {
        result.push_str(&text[copied..inner.bytes.end]);
        result.push_str(inner.after);
        copied = inner.bytes.end;
    }
    result.push_str(&text[copied..]);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(source: &str, wanted: &str) -> Result<String> {
        let tokens = tokens(source).expect("these are tokens");
        find_once(&tokens, wanted).map(|(bytes, _)| source[bytes].to_owned())
    }

    #[test]
    fn an_expression_is_found_whatever_its_lines() {
        let source = "fn f() {\n    a.b(\n        c, // not d\n    )\n}";
        assert_eq!(find(source, "a.b(c,)").expect("it is there"), "a.b(\n        c, // not d\n    )");
        assert_eq!(find(source, "c").expect("it is there"), "c");
    }

    #[test]
    fn an_expression_must_be_there_once() {
        let message = |wanted| find("f(a); g(a); // h(a)", wanted).expect_err(wanted).to_string();
        assert_eq!(message("a"), "it is there 2 times");
        assert_eq!(message("h(a)"), "it is not there");
        assert_eq!(message(""), "it is empty");
        assert!(message("g(").starts_with("not Rust"));
    }

    fn wrapped(text: &str, parts: &[(&str, &str)]) -> Result<String> {
        let wraps = parts.iter().map(|(part, name)| {
            let start = text.find(part).expect("a part of the text");
            Wrap { bytes: start..start + part.len(), before: format!("{name}<"), after: ">" }
        });
        apply(text, wraps.collect())
    }

    #[test]
    fn wraps_nest() {
        let text = "f(a, b) + c";
        assert_eq!(
            wrapped(text, &[("a", "1"), ("b", "2"), ("c", "3")]).expect("apart"),
            "f(1<a>, 2<b>) + 3<c>"
        );
        assert_eq!(wrapped(text, &[("b", "2"), ("f(a, b)", "0")]).expect("nested"), "0<f(a, 2<b>)> + c");
        assert_eq!(wrapped(text, &[("c", "1"), ("c", "2")]).expect("equal"), "f(a, b) + 1<2<c>>");
        assert_eq!(wrapped(text, &[("f(a", "1"), ("f", "2")]).expect("same start"), "1<2<f>(a>, b) + c");
        assert_eq!(wrapped(text, &[]).expect("none"), text);
    }

    #[test]
    fn wraps_do_not_overlap() {
        assert!(wrapped("a + b + c", &[("a + b", "1"), ("b + c", "2")]).is_err());
    }

    #[test]
    fn switches_are_expressions() {
        let ordering = around_ordering(2..5, 7);
        assert_eq!(apply("f(Acq)", vec![ordering]).expect("one"), "f(crate::mutate::order(7, Acq))");
        let expression = around_expression(0..3, "gone", "()");
        assert_eq!(
            apply("f();", vec![expression]).expect("one"),
            r#"(if crate::mutate::is("gone") { () } else { f() });"#
        );
    }
}
