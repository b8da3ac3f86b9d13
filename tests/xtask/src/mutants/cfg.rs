//! Which parts of a source are compiled for the models.
//!
//! An ordering behind `#[cfg(not(loom))]` cannot be missed by a model that never sees it. The compiler
//! is asked which configuration the models are built with; the rest is the language's own rules.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::tokens::{Token, closing, split_at_comma};

/// What `rustc --print cfg` says of a build.
#[derive(Debug)]
pub(super) struct Configuration(BTreeSet<String>);

impl Configuration {
    /// Reads the compiler's lines, such as `loom` and `feature="std"`.
    pub(super) fn new(lines: &str) -> Self {
        Self(lines.lines().map(str::to_owned).collect())
    }

    /// The tokens without those that are not compiled, and without their attributes.
    pub(super) fn compiled(&self, tokens: &[Token]) -> Result<Vec<Token>> {
        let mut kept = Vec::new();
        let mut index = 0;
        while index < tokens.len() {
            let Some(attribute) = CfgAttribute::at(tokens, index) else {
                kept.push(tokens[index].clone());
                index += 1;
                continue;
            };
            if self.holds(attribute.predicate)? {
                index = attribute.end;
            } else if attribute.is_inner {
                // All of the block or file that this is the beginning of.
                index = end_of_block(tokens, attribute.end);
            } else {
                index = end_of_item(tokens, attribute.end);
            }
        }
        Ok(kept)
    }

    /// Evaluates a predicate: `loom`, `feature = "std"`, `not(..)`, `all(..)`, `any(..)`.
    fn holds(&self, predicate: &[Token]) -> Result<bool> {
        let texts: Vec<&str> = predicate.iter().map(|token| token.text.as_str()).collect();
        match texts.as_slice() {
            ["true"] => Ok(true),
            ["false"] => Ok(false),
            [name] => Ok(self.0.contains(*name)),
            [name, "=", value] => Ok(self.0.contains(&format!("{name}={value}"))),
            [operator, "(", .., ")"] => {
                let mut rest = &predicate[2..predicate.len() - 1];
                let mut values = Vec::new();
                while !rest.is_empty() {
                    let (first, others) = split_at_comma(rest);
                    values.push(self.holds(first)?);
                    rest = others;
                }
                match (*operator, values.as_slice()) {
                    ("all", values) => Ok(!values.contains(&false)),
                    ("any", values) => Ok(values.contains(&true)),
                    ("not", [value]) => Ok(!value),
                    _ => bail!("the condition `{}` is not understood", texts.concat()),
                }
            }
            _ => bail!("the condition `{}` is not understood", texts.concat()),
        }
    }
}

/// `#[cfg(..)]` or `#![cfg(..)]`.
struct CfgAttribute<'t> {
    predicate: &'t [Token],
    is_inner: bool,
    /// The index of the token after it.
    end: usize,
}

impl<'t> CfgAttribute<'t> {
    fn at(tokens: &'t [Token], index: usize) -> Option<Self> {
        let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.is(text));
        if !is(index, "#") {
            return None;
        }
        let is_inner = is(index + 1, "!");
        let bracket = index + 1 + usize::from(is_inner);
        if !(is(bracket, "[") && is(bracket + 1, "cfg") && is(bracket + 2, "(")) {
            return None;
        }
        let close = closing(tokens, bracket + 2);
        Some(Self { predicate: &tokens[bracket + 3..close], is_inner, end: closing(tokens, bracket) + 1 })
    }
}

/// Words that begin an item or a statement, which ends with a block or a semicolon; anything else that
/// carries an attribute (a field, a variant, an arm) also ends with a comma.
const ITEMS: &[&str] = &[
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "let",
    "macro_rules",
    "mod",
    "pub",
    "static",
    "struct",
    "trait",
    "type",
    "union",
    "unsafe",
    "use",
];

/// The index after the item that begins at `start`, perhaps with more attributes.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut index = start;
    while tokens.get(index).is_some_and(|token| token.is("#")) {
        index = closing(tokens, index + 1) + 1;
    }
    let is_item = tokens.get(index).is_some_and(|token| ITEMS.contains(&token.text.as_str()));
    let is_import = tokens.get(index..).is_some_and(begins_import);
    while let Some(token) = tokens.get(index) {
        match token.text.as_str() {
            ";" => return index + 1,
            "," if !is_item => return index + 1,
            "{" if !is_import => return closing(tokens, index) + 1,
            "(" | "[" | "{" => index = closing(tokens, index),
            ")" | "]" | "}" => return index,
            _ => {}
        }
        index += 1;
    }
    index
}

/// Whether this is `use`, perhaps with a visibility: its braces do not end it.
fn begins_import(tokens: &[Token]) -> bool {
    let mut words = tokens.iter().take_while(|token| token.is_word() || token.is("(") || token.is(")"));
    words.any(|token| token.is("use"))
}

/// The index of the delimiter that ends the block around `start`, or the end.
fn end_of_block(tokens: &[Token], start: usize) -> usize {
    let mut index = start;
    while let Some(token) = tokens.get(index) {
        match token.text.as_str() {
            "(" | "[" | "{" => index = closing(tokens, index),
            ")" | "]" | "}" => return index,
            _ => {}
        }
        index += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    fn compiled(source: &str) -> String {
        let configuration = Configuration::new("loom\nfeature=\"std\"\ntarget_os=\"linux\"\n");
        let tokens = tokens(source).expect("these are tokens");
        let kept = configuration.compiled(&tokens).expect("the conditions are understood");
        kept.iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn items_end_with_their_block_or_semicolon() {
        assert_eq!(compiled("#[cfg(test)] mod tests { fn f() {} } fn g() {}"), "fn g ( ) { }");
        assert_eq!(compiled("#[cfg(not(loom))] use a::{b, c}; d();"), "d ( ) ;");
        assert_eq!(compiled("#[cfg(not(loom))] pub(crate) use a::{b, c}; d();"), "d ( ) ;");
        assert_eq!(compiled("#[cfg(test)] #[expect(x)] fn f<A, B>(a: A, b: B) { c } d"), "d");
        assert_eq!(compiled("#[cfg(loom)] mod a; b"), "mod a ; b");
    }

    #[test]
    fn fields_and_arms_end_with_their_comma() {
        assert_eq!(
            compiled("match x { #[cfg(not(loom))] A => f(), B => g() }"),
            "match x { B => g ( ) }".replace("=>", "= >")
        );
        assert_eq!(compiled("{ a, #[cfg(test)] b }"), "{ a , }");
    }

    #[test]
    fn a_statement_may_be_left_out() {
        assert_eq!(compiled("{ #[cfg(not(loom))] return f(a, b); g() }"), "{ g ( ) }");
    }

    #[test]
    fn an_inner_condition_holds_for_the_file_or_block() {
        assert_eq!(compiled("#![cfg(not(loom))] fn f() {}"), "");
        assert_eq!(compiled("mod a { #![cfg(test)] fn f() { g } } b"), "mod a { } b");
    }

    #[test]
    fn conditions_combine() {
        assert_eq!(compiled("#[cfg(all(loom, feature = \"std\"))] a; b"), "a ; b");
        assert_eq!(compiled("#[cfg(any(test, not(loom),))] a; b"), "b");
        assert_eq!(compiled("#[cfg(not(any(windows, target_os = \"none\")))] a; b"), "a ; b");
    }

    #[test]
    fn a_condition_that_is_not_understood_is_an_error() {
        let tokens = tokens("#[cfg(version(\"1.0\"))] a;").expect("these are tokens");
        let error = Configuration::new("").compiled(&tokens).expect_err("unknown operator");
        assert!(error.to_string().contains("version"), "{error}");
    }
}
