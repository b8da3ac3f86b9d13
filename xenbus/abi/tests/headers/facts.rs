//! What the sources say, put as facts that a C compiler can judge.
//!
//! `#[repr(C)]` is what a C compiler does: each structure is written down again in C, field for field, and the two are
//! compared, so that no layout is computed here.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, fmt::Write as _};

use syn::{Expr, Type};

use crate::{
    headers::Headers,
    sources::{Declaration, Field, Sources, What, unknown},
    to_c::{Scope, element, is_place, is_text, type_name},
};

/// One fact.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// What it says.
    pub(crate) name: String,
    /// The condition in C that is true where the fact is.
    pub(crate) c: String,
}

impl Fact {
    pub(crate) fn new(name: impl Into<String>, c: impl Into<String>) -> Self {
        Self { name: name.into(), c: c.into() }
    }

    /// That a condition in C is true.
    pub(crate) fn that(condition: impl Into<String>) -> Self {
        let c = condition.into();
        Self { name: c.clone(), c }
    }
}

/// What there is to compare.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// The types of the sources, in C.
    pub(crate) types: String,
    /// The facts.
    pub(crate) facts: Vec<Fact>,
    /// The paths of what has no counterpart in C; places are not among them, which no header has.
    pub(crate) ours: BTreeSet<String>,
    /// The names in C of the constants and structures that have one here.
    pub(crate) covered: BTreeSet<String>,
}

impl Comparison {
    pub(crate) fn new(sources: &Sources, headers: &Headers) -> Self {
        let mut this = Self::default();
        let mut defined = BTreeSet::new();
        for declaration in sources.iter() {
            this.define(sources, declaration, &mut defined);
        }
        for declaration in sources.iter().filter(|declaration| declaration.is_public) {
            this.say(sources, headers, declaration);
        }
        this
    }

    /// Writes a type down in C, after those that it is made of.
    fn define(&mut self, sources: &Sources, declaration: &Declaration, defined: &mut BTreeSet<String>) {
        let parts: Vec<&Type> = match &declaration.what {
            What::Structure(fields) => fields.iter().map(|field| &field.ty).collect(),
            What::Name(ty) => vec![&**ty],
            What::Constant(..) | What::Rust => return,
        };
        if !defined.insert(declaration.path()) {
            return;
        }
        for part in parts.iter().filter_map(|ty| sources.find(declaration, &element(ty)?)) {
            self.define(sources, part, defined);
        }
        let scope = Scope { sources, user: declaration };
        let name = type_name(declaration);
        let definition = match &declaration.what {
            What::Structure(fields) => {
                let field = |field: &Field| scope.declare(&field.ty, &in_c(field)) + "; ";
                format!("struct {{ {}}} {name}", fields.iter().map(field).collect::<String>())
            }
            _ => scope.declare(parts[0], &name),
        };
        writeln!(self.types, "typedef {definition};").expect("a string takes everything");
    }

    /// Says everything about a declaration, or that it has no counterpart.
    fn say(&mut self, sources: &Sources, headers: &Headers, declaration: &Declaration) {
        let mut c_names = declaration.c_names.clone();
        if let What::Constant(ty, _) = &declaration.what
            && c_names.is_empty()
        {
            if is_place(ty) {
                return;
            }
            c_names.extend(headers.constant(&declaration.name).map(str::to_owned));
        }
        if c_names.is_empty() {
            self.ours.insert(declaration.path());
        }
        for c in c_names {
            let scope = Scope { sources, user: declaration };
            match &declaration.what {
                What::Constant(ty, value) => self.say_constant(scope, ty, value, &c),
                What::Name(_) => self.say_name(declaration, &c),
                What::Structure(fields) => self.say_structure(headers, declaration, fields, &c),
                What::Rust => unknown(declaration),
            }
            self.covered.insert(c);
        }
    }

    fn say_constant(&mut self, scope: Scope<'_>, ty: &Type, value: &Expr, c: &str) {
        let condition = match c.split_once(' ') {
            Some(("struct" | "union", _tag)) => format!("{} == sizeof({c})", scope.number(ty, value)),
            _ if is_text(ty) => format!("__builtin_strcmp({}, {c}) == 0", scope.text(value)),
            _ => format!("{} == {c}", scope.number(ty, value)),
        };
        self.facts.push(Fact::new(format!("{} == {c}", scope.user.path()), condition));
    }

    fn say_name(&mut self, declaration: &Declaration, c: &str) {
        let (path, name) = (declaration.path(), type_name(declaration));
        let size = format!("sizeof({name}) == sizeof({c})");
        let sign = format!("IS_SIGNED(*({name} *)0) == IS_SIGNED(*({c} *)0)");
        self.facts
            .extend([Fact::new(format!("{path}: size"), size), Fact::new(format!("{path}: sign"), sign)]);
    }

    fn say_structure(&mut self, headers: &Headers, declaration: &Declaration, fields: &[Field], c: &str) {
        let (path, name) = (declaration.path(), type_name(declaration));
        let mut say = |what: &str, condition: String| {
            self.facts.push(Fact::new(format!("{path}{what}"), condition));
        };
        say(": size", format!("sizeof({name}) == sizeof({c})"));
        say(": alignment", format!("_Alignof({name}) == _Alignof({c})"));
        for field in fields {
            let Some(theirs) = &field.c_name else { continue };
            let (ours, field) = (in_c(field), &field.name);
            let offset = format!("offsetof({name}, {ours}) == offsetof({c}, {theirs})");
            let (ours, theirs) = (format!("(({name} *)0)->{ours}"), format!("(({c} *)0)->{theirs}"));
            say(&format!(".{field}: offset"), offset);
            say(&format!(".{field}: size"), format!("sizeof({ours}) == sizeof({theirs})"));
            say(&format!(".{field}: sign"), format!("IS_SIGNED({ours}) == IS_SIGNED({theirs})"));
        }
        for theirs in headers.fields(c) {
            if fields.iter().all(|field| field.c_name.as_ref() != Some(&theirs)) {
                say(&format!(".{theirs}: missing"), "0".to_owned());
            }
        }
    }
}

/// C's name for a field of the sources: that of the headers may be a macro, too.
fn in_c(field: &Field) -> String {
    format!("f_{}", field.name)
}
