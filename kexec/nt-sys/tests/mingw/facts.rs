//! What `nt-sys` says, put as facts that a C compiler can judge.
//!
//! Sizes and offsets come from the table of layouts, everything else from the crate's own sources, of which
//! nothing is left out: what cannot be put in C is a panic.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use nt_sys::layout::Layout;
use syn::{
    BinOp, Expr, Fields, FnArg, ForeignItem, GenericArgument, Item, ItemType, Lit, PathArguments,
    PointerMutability, ReturnType, Signature, Type, Visibility,
};

/// One fact.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// What it says; it is called so, too.
    pub(crate) name: String,
    /// The declaration, on one line, that compiles where the fact is true.
    pub(crate) c: String,
}

impl Fact {
    /// That a constant expression of C is true.
    pub(crate) fn that(condition: impl Into<String>) -> Self {
        let name = condition.into();
        Self { c: format!("_Static_assert({name});"), name }
    }
}

/// What the sources declare.
#[derive(Debug, Default)]
pub(crate) struct Declarations {
    /// The value of each constant.
    pub(crate) constants: Vec<Fact>,
    /// What each alias stands for, and how wide each enumeration is.
    pub(crate) types: Vec<Fact>,
    /// The prototype of each function, by its name.
    pub(crate) prototypes: BTreeMap<String, Fact>,
    /// Structures and unions, by their names.
    structures: BTreeMap<String, Fields>,
}

impl Declarations {
    /// Those of the crate: of `lib.rs` and the modules under it.
    pub(crate) fn of_the_crate() -> Self {
        Self::of(module("lib"))
    }

    /// Those of a text.
    pub(crate) fn of(items: Vec<Item>) -> Self {
        let mut declarations = Self::default();
        declarations.add("lib", items);
        declarations
    }

    fn add(&mut self, inside: &str, items: Vec<Item>) {
        for item in items {
            match item {
                // Names that are declared elsewhere; and the table, which is no declaration.
                Item::Use(_) => {}
                Item::Mod(table) if table.ident == "layout" => {}
                Item::Mod(item) => {
                    let name = item.ident.to_string();
                    let items = item.content.map_or_else(|| module(&name), |(_braces, items)| items);
                    self.add(&name, items);
                }
                Item::Const(item) => {
                    self.constants.push(Fact::that(format!("{} == {}", item.ident, value(&item.expr))));
                }
                // Such a module stands for an enumeration, and is called by its tag.
                Item::Type(item) if item.ident == "Type" => {
                    self.types.push(Fact::that(format!("sizeof(enum {inside}) == sizeof({})", c(&item.ty))));
                }
                Item::Type(item) => self.types.push(alias(&item)),
                Item::Struct(item) => {
                    self.structures.insert(item.ident.to_string(), item.fields);
                }
                Item::Union(item) => {
                    self.structures.insert(item.ident.to_string(), Fields::Named(item.fields));
                }
                Item::ForeignMod(block) => {
                    for item in block.items {
                        let ForeignItem::Fn(item) = item else { unknown(&item) };
                        self.prototypes.insert(item.sig.ident.to_string(), function(&item.sig));
                    }
                }
                // `value` knows the one, and a test calls the other.
                Item::Fn(item) if item.sig.ident == "error" || item.sig.ident == "CTL_CODE" => {}
                item => unknown(&item),
            }
        }
    }

    /// The size and alignment of each structure that has a row, and the offset and size of its fields.
    pub(crate) fn layouts(&self, rows: &[Layout]) -> Vec<Fact> {
        let mut facts = Vec::new();
        let mut measured = BTreeSet::new();
        for Layout { name, size, align, fields } in rows {
            facts.push(Fact::that(format!("sizeof({name}) == {size:#x}")));
            facts.push(Fact::that(format!("_Alignof({name}) == {align}")));
            for (path, offset) in *fields {
                let path: Vec<&str> = path.split('.').filter(|field| !is_anonymous(field)).collect();
                facts.push(Fact::that(format!("offsetof({name}, {}) == {offset:#x}", path.join("."))));
            }
            self.sizes(rows, name, &format!("(({name} *)0)->"), &mut facts, &mut measured);
        }
        for (name, fields) in &self.structures {
            let is_opaque = fields.iter().all(|field| matches!(field.vis, Visibility::Inherited));
            assert!(is_opaque || measured.contains(name), "{name} is in no row of `LAYOUTS`: give it one");
        }
        facts
    }

    /// The size of each field of `structure`, whose fields are at `place`.
    ///
    /// A structure without a row is measured there, field by field: it may have no name in C.
    fn sizes(
        &self,
        rows: &[Layout],
        structure: &str,
        place: &str,
        facts: &mut Vec<Fact>,
        measured: &mut BTreeSet<String>,
    ) {
        measured.insert(structure.to_owned());
        for field in &self.structures[structure] {
            let name = field.ident.as_ref().expect("a field of a C structure has a name").to_string();
            let ty = c(&field.ty);
            if self.structures.contains_key(&ty) && rows.iter().all(|row| row.name != ty) {
                let place = if is_anonymous(&name) { place.to_owned() } else { format!("{place}{name}.") };
                self.sizes(rows, &ty, &place, facts, measured);
            } else if !name.starts_with("__bindgen_padding_") {
                facts.push(Fact::that(format!("sizeof({place}{name}) == sizeof({ty})")));
            }
        }
    }
}

/// What a file of the crate contains.
fn module(name: &str) -> Vec<Item> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{name}.rs"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).items
}

fn alias(item: &ItemType) -> Fact {
    let (name, ty) = (&item.ident, c(&item.ty));
    match integer(&item.ty) {
        // A `long`, though as wide as an `int`, is another type to C.
        Some((_, sign)) => Fact::that(format!("sizeof({name}) == sizeof({ty}) && ({name})-1 {sign} 0")),
        None => Fact::that(format!("__builtin_types_compatible_p({name}, {ty})")),
    }
}

/// That a pointer of a type can be initialized with the function's name: it can, too, where the headers define the
/// function in place or hide it behind a macro.
fn function(signature: &Signature) -> Fact {
    let parameters = signature.inputs.iter().map(|input| match input {
        FnArg::Typed(typed) => &*typed.ty,
        FnArg::Receiver(_) => unknown(input),
    });
    let parameters: Vec<&Type> = parameters.collect();
    let (variadic, output) = (signature.variadic.is_some(), &signature.output);
    let declare = |declarator: &str| prototype(declarator, &parameters, variadic, output);
    let never = matches!(output, ReturnType::Type(_arrow, ty) if matches!(**ty, Type::Never(_)));
    let attribute = if never { "__attribute__((noreturn)) " } else { "" };

    let name = &signature.ident;
    let pointer = declare(&format!("(*const pointer_to_{name})"));
    Fact {
        name: format!("{attribute}{}", declare(&name.to_string())),
        c: format!("static {attribute}{pointer} = {name};"),
    }
}

/// Whether C has no name for a field: it reaches what is inside without one.
fn is_anonymous(field: &str) -> bool {
    field.starts_with("__bindgen_anon_")
}

/// C's name for one of Rust's integers, and how -1 compares with 0 there.
fn integer(ty: &Type) -> Option<(&'static str, char)> {
    let Type::Path(named) = ty else { return None };
    Some(match named.path.get_ident()?.to_string().as_str() {
        "i8" => ("char", '<'),
        "u8" => ("unsigned char", '>'),
        "i16" => ("short", '<'),
        "u16" => ("unsigned short", '>'),
        "i32" => ("int", '<'),
        "u32" => ("unsigned int", '>'),
        "i64" => ("long long", '<'),
        "u64" => ("unsigned long long", '>'),
        _ => return None,
    })
}

/// A type, in C.
fn c(ty: &Type) -> String {
    match ty {
        Type::Never(_) => "void".to_owned(),
        Type::Ptr(pointer) => {
            let is_const = matches!(pointer.mutability, PointerMutability::Const(_));
            format!("{}{} *", if is_const { "const " } else { "" }, c(&pointer.elem))
        }
        Type::Array(array) => format!("{}[{}]", c(&array.elem), value(&array.len)),
        Type::FnPtr(function) => {
            let parameters: Vec<&Type> = function.inputs.iter().map(|input| &input.ty).collect();
            prototype("(*)", &parameters, function.variadic.is_some(), &function.output)
        }
        Type::Path(named) => {
            if let Some((name, _sign)) = integer(ty) {
                return name.to_owned();
            }
            let last = named.path.segments.last().unwrap_or_else(|| unknown(ty));
            match &last.arguments {
                PathArguments::None if last.ident == "c_void" => "void".to_owned(),
                PathArguments::None => last.ident.to_string(),
                PathArguments::AngleBracketed(of) if last.ident == "Option" => match of.args.first() {
                    Some(GenericArgument::Type(function @ Type::FnPtr(_))) => c(function),
                    _ => unknown(ty),
                },
                _ => unknown(ty),
            }
        }
        ty => unknown(ty),
    }
}

/// A function's prototype, in C, with `declarator` in the place of its name.
fn prototype(declarator: &str, parameters: &[&Type], variadic: bool, output: &ReturnType) -> String {
    let mut list: Vec<String> = parameters.iter().map(|ty| c(ty)).collect();
    if variadic {
        list.push("...".to_owned());
    } else if list.is_empty() {
        list.push("void".to_owned());
    }
    let output = match output {
        ReturnType::Default => "void".to_owned(),
        ReturnType::Type(_arrow, ty) => c(ty),
    };
    format!("{output} {declarator}({})", list.join(", "))
}

/// A constant expression, in C.
fn value(expression: &Expr) -> String {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.to_string().replace('_', ""),
            literal => unknown(literal),
        },
        Expr::Path(constant) => constant.path.get_ident().unwrap_or_else(|| unknown(constant)).to_string(),
        Expr::Cast(cast) => value(&cast.expr),
        Expr::Binary(sum) if matches!(sum.op, BinOp::Add(_)) => {
            format!("{} + {}", value(&sum.left), value(&sum.right))
        }
        Expr::Call(call) if matches!(&*call.func, Expr::Path(path) if path.path.is_ident("error")) => {
            format!("(NTSTATUS){}", value(&call.args[0]))
        }
        expression => unknown(expression),
    }
}

/// `nt-sys` has got something of a new kind.
#[track_caller]
fn unknown(what: &dyn fmt::Debug) -> ! {
    panic!("say here what this is in C: {what:#?}");
}
