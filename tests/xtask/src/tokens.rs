//! Rust source as a flat list of tokens.
//!
//! Comments are gone, strings are one token each, and where a line ends does not matter: what is looked
//! for cannot be found in a comment or missed because rustfmt broke a line.

use std::ops::Range;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

/// One token: an identifier, a literal, a delimiter, or one character of punctuation.
///
/// A documentation comment is the attribute that it stands for: `#`, `[`, `doc`, and so on.
#[derive(Clone, Debug)]
pub struct Token {
    /// As it is written.
    pub text: String,
    /// Where it stands in the source.
    pub bytes: Range<usize>,
    /// The line where it begins, counted from one.
    pub line: usize,
}

impl Token {
    /// Whether it is this text.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }

    /// Whether it is an identifier or a keyword.
    #[must_use]
    pub fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_') && !self.text.contains(['"', '\''])
    }
}

/// The tokens of a source text.
///
/// # Errors
///
/// It is not made of Rust tokens, or its delimiters are not balanced.
pub fn tokens(source: &str) -> Result<Vec<Token>> {
    let stream: TokenStream = source.parse().map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut list = Vec::new();
    flatten(stream, &mut list);
    Ok(list)
}

fn flatten(stream: TokenStream, list: &mut Vec<Token>) {
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open.to_owned(), group.span_open(), list);
                flatten(group.stream(), list);
                push(close.to_owned(), group.span_close(), list);
            }
            TokenTree::Ident(ident) => push(ident.to_string(), ident.span(), list),
            TokenTree::Punct(punct) => push(punct.as_char().to_string(), punct.span(), list),
            TokenTree::Literal(literal) => push(literal.to_string(), literal.span(), list),
        }
    }
}

fn push(text: String, span: Span, list: &mut Vec<Token>) {
    list.push(Token { text, bytes: span.byte_range(), line: span.start().line });
}

/// The index of the delimiter that closes the one at `open`.
///
/// A list made by [`tokens`] has one; for any other list, its last index is as far as it goes.
#[must_use]
pub fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len().saturating_sub(1)
}

/// The tokens up to the first comma outside any delimiters, and those after it.
#[must_use]
pub fn split_at_comma(tokens: &[Token]) -> (&[Token], &[Token]) {
    let mut index = 0;
    while index < tokens.len() {
        match tokens[index].text.as_str() {
            "," => return (&tokens[..index], &tokens[index + 1..]),
            "(" | "[" | "{" => index = closing(tokens, index),
            _ => {}
        }
        index += 1;
    }
    (tokens, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        tokens(source).expect("these are tokens").into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_strings_hide_nothing_else() {
        assert_eq!(texts("a /* b */ // c\n d"), ["a", "d"]);
        assert_eq!(
            texts(r##"f("x \" y", 'c', r#"q"#)"##),
            ["f", "(", r#""x \" y""#, ",", "'c'", ",", "r#\"q\"#", ")"]
        );
        assert_eq!(texts("&'a T"), ["&", "'", "a", "T"]);
    }

    #[test]
    fn places_are_those_of_the_source() {
        let source = "é(\n    β)";
        let list = tokens(source).expect("these are tokens");
        let beta = &list[2];
        assert_eq!((&source[beta.bytes.clone()], beta.line), ("β", 2));
        assert_eq!(&source[list[3].bytes.clone()], ")");
    }

    #[test]
    fn places_do_not_depend_on_what_was_read_before() {
        let first = tokens("a b").expect("these are tokens");
        let again = tokens("a b").expect("these are tokens");
        assert_eq!(first[1].bytes, again[1].bytes);
    }

    #[test]
    fn delimiters_are_matched() {
        let list = tokens("f(a, [b, c], d) {}").expect("these are tokens");
        assert_eq!(closing(&list, 1), list.len() - 3);
        let (first, rest) = split_at_comma(&list[4..]);
        assert_eq!(first.len(), 5);
        assert!(rest[0].is("d"));
        assert!(tokens("f(").is_err());
    }

    #[test]
    fn a_word_is_not_a_literal() {
        let list = tokens("unsafe _x b\"y\" 1 'z'").expect("these are tokens");
        let words: Vec<bool> = list.iter().map(Token::is_word).collect();
        assert_eq!(words, [true, true, false, false, false]);
    }
}
