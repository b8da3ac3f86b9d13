//! What is asked, as bytes: `docs/misc/xenstore.txt`.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::MessageType;

use super::{
    error::{Asked, StoreError},
    path::Path,
    permission::Permission,
};

/// A question: a string, which is a path if the question is about a node, and what comes after its nul.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    pub(super) kind: MessageType,
    subject: Path<'r>,
    rest: Rest<'r>,
}

#[derive(Clone, Copy, Debug)]
enum Rest<'r> {
    Nothing,
    /// A value, to the end of the message.
    Value(&'r [u8]),
    /// Another string.
    String(&'r str),
    Permissions(&'r [Permission]),
}

impl<'r> Request<'r> {
    /// About a node.
    pub(super) fn node(kind: MessageType, path: Path<'r>) -> Result<Self, StoreError> {
        Ok(Self { kind, subject: path.checked(kind)?, rest: Rest::Nothing })
    }

    /// The same, by another type of message.
    pub(super) const fn of(self, kind: MessageType) -> Self {
        Self { kind, ..self }
    }

    /// About nothing that has a path.
    pub(super) const fn plain(kind: MessageType, subject: &'r str) -> Self {
        Self { kind, subject: Path::new(subject), rest: Rest::Nothing }
    }

    pub(super) const fn value(self, value: &'r [u8]) -> Self {
        Self { rest: Rest::Value(value), ..self }
    }

    pub(super) const fn string(self, string: &'r str) -> Self {
        Self { rest: Rest::String(string), ..self }
    }

    pub(super) const fn permissions(self, permissions: &'r [Permission]) -> Self {
        Self { rest: Rest::Permissions(permissions), ..self }
    }

    /// What errors call it.
    pub(super) fn asked(&self) -> Asked {
        Asked::new(self.kind, self.subject)
    }

    /// Hands out the bytes of the payload, one by one.
    pub(super) fn payload(&self, mut put: impl FnMut(u8)) {
        self.subject.bytes().for_each(&mut put);
        put(0);
        match self.rest {
            Rest::Nothing => {}
            Rest::Value(value) => value.iter().copied().for_each(put),
            Rest::String(string) => string.bytes().chain([0]).for_each(put),
            Rest::Permissions(permissions) => {
                for permission in permissions {
                    permission.text().bytes().chain([0]).for_each(&mut put);
                }
            }
        }
    }
}
