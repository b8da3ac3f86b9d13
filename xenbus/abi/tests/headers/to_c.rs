//! Types and values of Rust, written in C.
#![forbid(unsafe_code)]

use syn::{BinOp, Expr, ExprPath, GenericArgument, Lit, PathArguments, Type, UnOp, parse_quote};

use crate::sources::{Declaration, Sources, What, unknown};

/// Where a name stands: what it means depends on that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// All that there is.
    pub(crate) sources: &'a Sources,
    /// Whose type or value it is in.
    pub(crate) user: &'a Declaration,
}

impl<'a> Scope<'a> {
    /// The declaration of something of that type.
    pub(crate) fn declare(self, ty: &Type, declarator: &str) -> String {
        match ty {
            Type::Array(array) => {
                let count = self.number(&parse_quote!(usize), &array.len);
                self.declare(&array.elem, &format!("{declarator}[{count}]"))
            }
            _ => format!("{} {declarator}", self.scalar(ty)),
        }
    }

    /// A constant expression of an integer type.
    pub(crate) fn number(self, ty: &Type, expression: &Expr) -> String {
        let c = match expression {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(number) => number.base10_digits().to_owned() + "ull",
                literal => unknown(literal),
            },
            Expr::Paren(inner) => self.number(ty, &inner.expr),
            Expr::Unary(unary) => {
                let op = match &unary.op {
                    UnOp::Neg(_) => "-",
                    UnOp::Not(_) => "~",
                    op => unknown(op),
                };
                format!("{op}{}", self.number(ty, &unary.expr))
            }
            Expr::Binary(binary) => {
                let op = match &binary.op {
                    BinOp::Add(_) => "+",
                    BinOp::Sub(_) => "-",
                    BinOp::Mul(_) => "*",
                    BinOp::Shl(_) => "<<",
                    op => unknown(op),
                };
                format!("{} {op} {}", self.number(ty, &binary.left), self.number(ty, &binary.right))
            }
            Expr::Path(constant) => {
                let (scope, ty, value) = self.constant(constant);
                scope.number(ty, value)
            }
            // Of whatever type the constant is: the cast to this one comes below.
            Expr::Cast(cast) if matches!(*cast.expr, Expr::Path(_)) => self.number(ty, &cast.expr),
            Expr::Call(call) => match (&*call.func, call.args.first()) {
                (Expr::Path(newtype), Some(inner)) if self.is_newtype(newtype) => self.number(ty, inner),
                (Expr::Path(callee), None) => format!("sizeof({})", self.scalar(size_of(callee))),
                _ => unknown(call),
            },
            expression => unknown(expression),
        };
        format!("(({})({c}))", self.scalar(ty))
    }

    /// A constant expression that is a text.
    pub(crate) fn text(self, expression: &Expr) -> String {
        match expression {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => format!("{:?}", text.value()),
                literal => unknown(literal),
            },
            Expr::Path(constant) => {
                let (scope, _ty, value) = self.constant(constant);
                scope.text(value)
            }
            expression => unknown(expression),
        }
    }

    /// The name of a type that is no array.
    fn scalar(self, ty: &Type) -> String {
        let ident = element(ty).unwrap_or_else(|| unknown(ty));
        match integer(&ident) {
            Some(name) => name.to_owned(),
            None => type_name(self.sources.find(self.user, &ident).unwrap_or_else(|| unknown(ty))),
        }
    }

    fn is_newtype(self, callee: &ExprPath) -> bool {
        let declaration =
            callee.path.get_ident().and_then(|it| self.sources.find(self.user, &it.to_string()));
        matches!(declaration, Some(Declaration { what: What::Name(_), .. }))
    }

    /// What a constant is, and where that is said.
    fn constant(self, constant: &ExprPath) -> (Self, &'a Type, &'a Expr) {
        let ident = constant.path.get_ident().unwrap_or_else(|| unknown(constant)).to_string();
        match self.sources.find(self.user, &ident) {
            Some(user @ Declaration { what: What::Constant(ty, value), .. }) => {
                (Self { user, ..self }, ty, value)
            }
            other => unknown(&(constant, other)),
        }
    }
}

/// The name of a type of the sources.
pub(crate) fn type_name(declaration: &Declaration) -> String {
    format!("rust_{}", declaration.path().replace("::", "__"))
}

/// What a type is called in Rust, or what an array is of.
pub(crate) fn element(ty: &Type) -> Option<String> {
    match ty {
        Type::Array(array) => element(&array.elem),
        Type::Path(named) => named.path.get_ident().map(ToString::to_string),
        _ => None,
    }
}

/// Whether it is a place in a page, or several.
pub(crate) fn is_place(ty: &Type) -> bool {
    let Type::Path(named) = ty else { return false };
    named.path.segments.last().is_some_and(|last| last.ident == "Place" || last.ident == "Places")
}

/// Whether it is `&str`.
pub(crate) fn is_text(ty: &Type) -> bool {
    matches!(ty, Type::Reference(text) if element(&text.elem).as_deref() == Some("str"))
}

/// The name of one of Rust's integers.
fn integer(ident: &str) -> Option<&'static str> {
    Some(match ident {
        "i8" => "int8_t",
        "u8" => "uint8_t",
        "i16" => "int16_t",
        "u16" => "uint16_t",
        "i32" => "int32_t",
        "u32" => "uint32_t",
        "i64" => "int64_t",
        "u64" | "usize" => "uint64_t",
        _ => return None,
    })
}

/// The type in `size_of::<..>`.
fn size_of(callee: &ExprPath) -> &Type {
    let last = callee.path.segments.last().filter(|last| last.ident == "size_of");
    match last.map(|last| &last.arguments) {
        Some(PathArguments::AngleBracketed(arguments)) => match arguments.args.first() {
            Some(GenericArgument::Type(ty)) => ty,
            other => unknown(&other),
        },
        _ => unknown(callee),
    }
}
