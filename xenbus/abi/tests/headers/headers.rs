//! Xen's headers, as the C compiler reads them: what they declare, and what they have against a fact.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{ErrorKind, Write as _},
    process::{Command, Output, Stdio},
};

use crate::facts::Fact;

const GCC: &str = "gcc";
const REMEDY: &str = "apt-get install --no-install-recommends gcc libc6-dev libxen-dev";

/// A guest's view, of the newest interface that the headers have.
const VIEW: [&str; 4] =
    ["-xc", "-", "-std=gnu11", "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__"];
/// One line for each error, which for one inside a macro is the line that uses the macro.
const REPORT: [&str; 3] = ["-fsyntax-only", "-fdiagnostics-plain-output", "-ftrack-macro-expansion=0"];

/// All headers that the crate has something of.
const HEADERS: &str = "
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <xen/xen.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>
#include <xen/hvm/pvdrivers.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/netif.h>
#include <xen/io/protocols.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>
#define IS_SIGNED(x) _Generic((x), int8_t: 1, int16_t: 1, int32_t: 1, int64_t: 1, default: 0)
";

/// What the headers declare.
#[derive(Debug)]
pub(crate) struct Headers {
    /// All that is left when they have been preprocessed.
    text: String,
    /// The macros without parameters that have a value, and the constants of enumerations.
    constants: BTreeSet<String>,
}

impl Headers {
    pub(crate) fn read() -> Self {
        let output = run(Command::new(GCC).args(VIEW).args(["-E", "-P", "-dD"]), HEADERS);
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or_default();
        assert!(output.status.success(), "Xen's headers cannot be read ({first}): {REMEDY}");

        let all = String::from_utf8_lossy(&output.stdout);
        let (macros, text): (Vec<&str>, Vec<&str>) = all.lines().partition(|line| line.starts_with('#'));
        let text = text.join("\n");
        let macros = macros.into_iter().filter_map(|line| {
            let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
            (is_word(name) && !value.is_empty()).then_some(name)
        });
        let lists = definitions(&text, "enum").filter_map(|(_tag, body)| body.split_once('}'));
        let enumerators = lists.flat_map(|(list, _)| list.split(',').filter_map(|each| words(each).next()));
        let constants = macros.chain(enumerators).map(str::to_owned).collect();
        Self { text, constants }
    }

    /// The errors of xenstored, in the order of the header's array, each with its number.
    pub(crate) fn xenstore_errors(&self) -> Vec<(String, u16)> {
        let (_, array) = self.text.split_once("xsd_errors[]").expect("errno.h is included before xs_wire.h");
        let (_, array) = array.split_once('{').expect("it is initialised");
        let (array, _) = array.split_once(';').expect("it ends");
        let entries = array.split('{').skip(1).map(|entry| {
            let (number, name) = entry.split_once(',').expect("a number and a name");
            let name = words(name).next().expect("a name");
            (name.to_owned(), number.trim().parse().expect("a number"))
        });
        entries.collect()
    }

    /// The constant that is called so in capitals.
    pub(crate) fn constant(&self, capitals: &str) -> Option<&str> {
        let mut found = self.constants.iter().filter(|name| name.eq_ignore_ascii_case(capitals));
        let first = found.next()?;
        assert_eq!(found.next(), None, "{capitals} may be {first}: say its name in C");
        Some(first)
    }

    /// The constants whose names begin so, and the structures (`struct prefix..`).
    pub(crate) fn family<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = String> + 'a {
        let tags = definitions(&self.text, "struct").map(|(tag, _body)| tag).filter(|tag| !tag.is_empty());
        let names = self.constants.iter().cloned().chain(tags.map(|tag| format!("struct {tag}")));
        names.filter(move |name| name.starts_with(prefix))
    }

    /// The names of the fields of a structure (`struct tag`), or of what `__typeof__` finds in one.
    pub(crate) fn fields(&self, c: &str) -> Vec<String> {
        let part = c.strip_prefix("__typeof__(((").and_then(|part| part.strip_suffix(')'));
        let (structure, members) = part.and_then(|part| part.split_once(" *)0)->")).unwrap_or((c, ""));
        let mut body = definitions(&self.text, "struct")
            .find_map(|(tag, body)| (structure.strip_prefix("struct ") == Some(tag)).then_some(body));
        for member in members.split_terminator('.') {
            body = body.and_then(|body| {
                let mut all = declarations(body).into_iter();
                let declaration = all.find(|all| declarators(all).iter().any(|name| name == member))?;
                declaration.split_once('{').map(|(_, inner)| inner)
            });
        }
        let body = body.unwrap_or_else(|| panic!("the headers do not define {c}"));
        declarations(body).into_iter().flat_map(declarators).collect()
    }

    /// What the compiler has against those of the facts that are not true, by their names.
    ///
    /// The compiler is told that each fact is a file of its own, of that name, so its errors come with the names.
    pub(crate) fn denied(types: &str, facts: &[Fact]) -> BTreeMap<String, String> {
        let mut source = format!("{HEADERS}{types}");
        for Fact { name, c } in facts {
            writeln!(source, "#line 1 {name:?}\n_Static_assert({c}, \"they have another\");")
                .expect("a string takes everything");
        }
        let output = run(Command::new(GCC).args(VIEW).args(REPORT).env("LC_ALL", "C"), &source);

        let said = String::from_utf8_lossy(&output.stderr);
        let mut denied = BTreeMap::new();
        for line in said.lines() {
            let Some((place, reason)) = line.split_once(": error: ") else { continue };
            let fact = place.split_once(":1:").map(|(name, _column)| name);
            let fact = fact.filter(|name| facts.iter().any(|fact| fact.name == *name));
            let fact = fact.unwrap_or_else(|| panic!("what is before the facts does not compile:\n{said}"));
            denied.entry(fact.to_owned()).or_insert_with(|| reason.to_owned());
        }
        assert_eq!(
            output.status.success(),
            denied.is_empty(),
            "{GCC} did not get as far as the facts:\n{said}"
        );
        denied
    }
}

/// The definitions of structures or enumerations: the tag of each, if it has one, and the text from behind its brace
/// on.
fn definitions<'a>(text: &'a str, keyword: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.match_indices(keyword).filter_map(|(at, _)| {
        let (tag, body) = text[at + keyword.len()..].split_once('{')?;
        tag.trim().chars().all(is_letter).then_some((tag.trim(), body))
    })
}

/// The declarations in the body of a structure, of which `body` has the beginning, up to the brace that ends it.
fn declarations(body: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut found) = (0_u32, 0, Vec::new());
    for (at, letter) in body.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ';' if depth == 0 => {
                found.push(&body[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// What a declaration declares: the last word before each comma, braces and brackets left out.
fn declarators(declaration: &str) -> Vec<String> {
    let mut depth = 0_u32;
    let outside: String = declaration
        .chars()
        .filter(|letter| {
            match letter {
                '{' | '[' | '(' => depth += 1,
                '}' | ']' | ')' => depth -= 1,
                _ => return depth == 0,
            }
            false
        })
        .collect();
    outside.split(',').filter_map(|part| words(part).last().map(str::to_owned)).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !is_letter(letter)).filter(|word| !word.is_empty())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_letter)
}

fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn run(command: &mut Command, input: &str) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => panic!("{GCC} is not installed: {REMEDY}"),
        _ => panic!("{GCC}: {error}"),
    });
    // It reads all of its input before it says anything.
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).unwrap_or_else(|error| panic!("{GCC} does not read: {error}"));
    drop(stdin);
    child.wait_with_output().unwrap_or_else(|error| panic!("{GCC}: {error}"))
}
