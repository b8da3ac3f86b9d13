//! What the crate's own sources declare, of which nothing is left out.
#![forbid(unsafe_code)]

use std::{fmt, fs, path::Path};

use syn::{
    Attribute, Expr, ExprLit, Fields, ImplItem, Item, ItemEnum, ItemImpl, Lit, LitStr, Meta, MetaNameValue,
    Token, Type, Visibility,
    parse::{ParseStream, Parser as _},
    parse_quote,
};

use crate::to_c::element;

/// All declarations of a crate.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<Declaration>);

/// A constant or a type.
#[derive(Debug)]
pub(crate) struct Declaration {
    /// The module, from the crate's root.
    module: String,
    /// Its name in there.
    pub(crate) name: String,
    /// Whether others can use it.
    pub(crate) is_public: bool,
    /// The names in C that its documentation begins with.
    pub(crate) c_names: Vec<String>,
    /// What it is.
    pub(crate) what: What,
}

/// What a declaration is.
#[derive(Debug)]
pub(crate) enum What {
    /// Of this type, with this value.
    Constant(Box<Type>, Box<Expr>),
    /// `#[repr(C)]`, with these fields.
    Structure(Vec<Field>),
    /// Another name for a type: an alias, a newtype or the integer that an `enum` is.
    Name(Box<Type>),
    /// A type that never leaves Rust.
    Rust,
}

/// A field of a structure.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name.
    pub(crate) name: String,
    /// Its name in C; none if it is padding, which has none.
    pub(crate) c_name: Option<String>,
    /// Its type.
    pub(crate) ty: Type,
}

impl Declaration {
    /// Its path from the crate's root.
    pub(crate) fn path(&self) -> String {
        if self.module.is_empty() { self.name.clone() } else { format!("{}::{}", self.module, self.name) }
    }
}

impl Sources {
    /// Those of the crate: of `lib.rs` and the modules under it. The seam is no part of the ABI.
    pub(crate) fn of_the_crate() -> Self {
        let mut sources = Self::default();
        sources.add("", file("lib"));
        sources
    }

    /// Those of a text.
    pub(crate) fn of(text: &str) -> Self {
        let mut sources = Self::default();
        sources.add("", syn::parse_str::<syn::File>(text).expect("these are items").items);
        sources
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Declaration> + Clone {
        self.0.iter()
    }

    /// What `ident` means to whoever is beside `user`: what is there, or else the only one of that name.
    pub(crate) fn find(&self, user: &Declaration, ident: &str) -> Option<&Declaration> {
        let mut called = self.iter().filter(|it| it.name == ident);
        let beside = called.clone().find(|it| it.module == user.module);
        beside.or_else(|| called.next().filter(|_| called.next().is_none()))
    }

    /// The constants whose value is made of `offset_of!(structure, field)`, each with the field.
    pub(crate) fn places(&self) -> impl Iterator<Item = (String, String)> {
        self.iter().filter_map(|declaration| {
            let What::Constant(_, value) = &declaration.what else { return None };
            Some((declaration.path(), offset_of(value)?))
        })
    }

    fn add(&mut self, module: &str, items: Vec<Item>) {
        for item in items {
            match item {
                Item::Use(_) | Item::ExternCrate(_) | Item::Fn(_) => {}
                Item::Mod(item) if item.ident == "tests" || (module.is_empty() && item.ident == "seam") => {}
                Item::Mod(item) => {
                    let name = if module.is_empty() {
                        item.ident.to_string()
                    } else {
                        format!("{module}::{}", item.ident)
                    };
                    self.add(
                        &name,
                        item.content.map_or_else(|| file(&name.replace("::", "/")), |(_, items)| items),
                    );
                }
                Item::Const(item) if item.ident == "_" => {}
                Item::Const(item) => {
                    let what = What::Constant(item.ty, item.expr);
                    self.push(module, &item.ident, &item.vis, &item.attrs, what);
                }
                Item::Type(item) => {
                    self.push(module, &item.ident, &item.vis, &item.attrs, What::Name(item.ty));
                }
                Item::Struct(item) => {
                    let what = What::of_struct(&item.attrs, item.fields);
                    self.push(module, &item.ident, &item.vis, &item.attrs, what);
                }
                Item::Enum(item) => self.add_enum(module, item),
                Item::Impl(item) => self.add_impl(module, item),
                Item::Macro(item) if item.mac.path.is_ident("macro_rules") => {}
                Item::Macro(item) => {
                    let table = item.mac.path.get_ident().unwrap_or_else(|| unknown(&item)).to_string();
                    let rows = |input: ParseStream<'_>| self.add_table(module, &table, input);
                    rows.parse2(item.mac.tokens).unwrap_or_else(|error| panic!("{table}!: {error}"));
                }
                item => unknown(&item),
            }
        }
    }

    /// An enumeration: its constants, and that it is an integer.
    fn add_enum(&mut self, module: &str, item: ItemEnum) {
        let Some(repr) = repr(&item.attrs) else {
            return self.push(module, &item.ident, &item.vis, &item.attrs, What::Rust);
        };
        for variant in item.variants {
            let name = format!("{}::{}", item.ident, variant.ident);
            let Some((_, value)) = variant.discriminant else { unknown(&variant) };
            let what = What::Constant(parse_quote!(#repr), Box::new(value));
            self.push(module, &name, &item.vis, &variant.attrs, what);
        }
        self.push(module, &item.ident, &item.vis, &item.attrs, What::Name(parse_quote!(#repr)));
    }

    /// The constants that belong to a type.
    fn add_impl(&mut self, module: &str, item: ItemImpl) {
        let of = element(&item.self_ty).unwrap_or_else(|| unknown(&item.self_ty));
        for item in item.items {
            if let ImplItem::Const(item) = item {
                let what = What::Constant(Box::new(item.ty), Box::new(item.expr));
                self.push(module, &format!("{of}::{}", item.ident), &item.vis, &item.attrs, what);
            }
        }
    }

    /// The constants of a table: rows of `NAME = number`, of which some have texts behind them, the first of which is
    /// the name in C.
    fn add_table(&mut self, module: &str, table: &str, input: ParseStream<'_>) -> syn::Result<()> {
        let (of, ty, prefix): (_, Type, _) = match table {
            "errnos" => ("Errno", parse_quote!(i32), Some("XEN_")),
            "errors" => ("XsError", parse_quote!(u16), Some("")),
            "message_types" => ("MessageType", parse_quote!(u32), None),
            "statuses" => ("GrantError", parse_quote!(i32), None),
            table => unknown(&table),
        };
        while !input.is_empty() {
            input.call(Attribute::parse_outer)?;
            let name: syn::Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            let number: Expr = input.parse()?;
            let mut c_name = prefix.map(|prefix| format!("{prefix}{name}"));
            while input.parse::<Option<Token![,]>>()?.is_some() && input.peek(LitStr) {
                let text: LitStr = input.parse()?;
                c_name.get_or_insert_with(|| text.value());
            }
            input.parse::<Option<Token![;]>>()?;
            self.0.push(Declaration {
                module: module.to_owned(),
                name: format!("{of}::{name}"),
                is_public: true,
                c_names: c_name.into_iter().collect(),
                what: What::Constant(Box::new(ty.clone()), Box::new(number)),
            });
        }
        Ok(())
    }

    fn push(
        &mut self,
        module: &str,
        name: &impl ToString,
        vis: &Visibility,
        attrs: &[Attribute],
        what: What,
    ) {
        self.0.push(Declaration {
            module: module.to_owned(),
            name: name.to_string(),
            is_public: matches!(vis, Visibility::Public(_)),
            c_names: c_names(&first_line(attrs)),
            what,
        });
    }
}

impl What {
    fn of_struct(attrs: &[Attribute], fields: Fields) -> Self {
        match (repr(attrs).map(|repr| repr.to_string()).as_deref(), fields) {
            (None, _) => Self::Rust,
            (Some("C"), Fields::Named(fields)) => {
                Self::Structure(fields.named.into_iter().map(Field::of).collect())
            }
            (Some("transparent"), Fields::Unnamed(fields)) if fields.unnamed.len() == 1 => {
                Self::Name(Box::new(fields.unnamed[0].ty.clone()))
            }
            (_, fields) => unknown(&fields),
        }
    }
}

impl Field {
    fn of(field: syn::Field) -> Self {
        let name = field.ident.as_ref().map_or_else(|| unknown(&field), ToString::to_string);
        let name = name.trim_start_matches("r#").to_owned();
        // C's names for what nobody is to touch begin with underscores.
        let hidden = c_names(&first_line(&field.attrs)).into_iter().next();
        let hidden = hidden.filter(|hidden| hidden.trim_start_matches('_') == name);
        let is_padding = name.starts_with("padding");
        let c_name = if is_padding { None } else { Some(hidden.unwrap_or_else(|| name.clone())) };
        Self { name, c_name, ty: field.ty }
    }
}

/// The field in the `offset_of!` of an expression.
fn offset_of(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Call(call) => call.args.iter().find_map(offset_of),
        Expr::Macro(of) if of.mac.path.is_ident("offset_of") => {
            let of = of.mac.tokens.to_string();
            of.rsplit(|letter: char| !letter.is_alphanumeric() && letter != '_').next().map(str::to_owned)
        }
        _ => None,
    }
}

/// The names in C that a text begins with: code, perhaps a part of a structure, as in "`a.b` of `struct c`"; behind
/// ", and " there may be another.
fn c_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
        let part = after.strip_prefix(" of `").and_then(|of| of.split_once('`'));
        let (name, after) = match part {
            Some((whole, after)) => (format!("__typeof__((({whole} *)0)->{name})"), after),
            None => (name.to_owned(), after),
        };
        names.push(name);
        rest = after.strip_prefix(", and ").unwrap_or_default();
    }
    names
}

/// The first line of an item's documentation.
fn first_line(attrs: &[Attribute]) -> String {
    let line = attrs.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(MetaNameValue {
            path,
            value: Expr::Lit(ExprLit { lit: Lit::Str(text), .. }),
            ..
        }) if path.is_ident("doc") => Some(text.value().trim().to_owned()),
        _ => None,
    });
    line.unwrap_or_default()
}

/// What is in `#[repr(..)]`.
fn repr(attrs: &[Attribute]) -> Option<syn::Ident> {
    let attribute = attrs.iter().find(|attribute| attribute.path().is_ident("repr"))?;
    Some(attribute.parse_args().unwrap_or_else(|error| panic!("#[repr]: {error}")))
}

/// What a file of the crate contains.
fn file(module: &str) -> Vec<Item> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{module}.rs"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).items
}

/// The crate has got something of a new kind.
#[track_caller]
pub(crate) fn unknown(what: &dyn fmt::Debug) -> ! {
    panic!("say here what this is in C: {what:#?}");
}
