//! Paths that are put together, and text that is made, without memory from anywhere.
#![forbid(unsafe_code)]

use core::{fmt, ops::Deref};

use xen_abi::io::xs_wire::{MessageType, XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX};

use super::error::{Asked, StoreError};

/// The most parts that a [`Path`] is put together from.
pub const PARTS: usize = 4;

/// The path of a node: up to [`PARTS`] parts, each of which may have slashes of its own.
///
/// One that begins with a slash is absolute, and has 3072 bytes at most. Every other is relative to the domain's own
/// directory, and has 2048 at most. What is too long, has too many parts or is empty is refused when it is used.
///
/// ```
/// use xenbus::store::{Path, Text};
///
/// let frontend = Path::new("device/vif/0");
/// assert_eq!(frontend.join("queue-1").join("tx-ring-ref").to_string(), "device/vif/0/queue-1/tx-ring-ref");
/// assert_eq!(Path::new("/").join("local").to_string(), "/local");
///
/// let queue: Text<16> = Text::of(format_args!("queue-{}", 7))?;
/// assert_eq!(frontend.join(&queue).to_string(), "device/vif/0/queue-7");
/// # Ok::<(), xenbus::store::Cut>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Path<'p> {
    parts: [&'p str; PARTS],
    /// One more than there can be, if there were more.
    count: usize,
}

impl<'p> Path<'p> {
    /// A path of one part.
    #[must_use]
    pub const fn new(path: &'p str) -> Self {
        Self { parts: [path, "", "", ""], count: 1 }
    }

    /// A node below this one.
    #[must_use]
    pub fn join(mut self, node: &'p str) -> Self {
        if let Some(part) = self.parts.get_mut(self.count) {
            *part = node;
        }
        self.count = self.count.saturating_add(1).min(PARTS.saturating_add(1));
        self
    }

    /// The parts, with the slashes between them.
    fn pieces(&self) -> impl Iterator<Item = &'p str> {
        let mut above = "";
        self.parts.into_iter().take(self.count).filter(|part| !part.is_empty()).flat_map(move |part| {
            let slash = if above.is_empty() || above.ends_with('/') { "" } else { "/" };
            above = part;
            [slash, part]
        })
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.pieces().map(str::len).sum()
    }

    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> {
        self.pieces().flat_map(str::bytes)
    }

    /// This path, if it can be one.
    pub(super) fn checked(self, kind: MessageType) -> Result<Self, StoreError> {
        let length = self.len();
        let is_absolute = self.bytes().next() == Some(b'/');
        let most = if is_absolute { XENSTORE_ABS_PATH_MAX } else { XENSTORE_REL_PATH_MAX };
        let has_nul = self.pieces().any(|piece| piece.contains('\0'));
        if length == 0 || length > most || has_nul || self.count > PARTS {
            Err(StoreError::Path { asked: Asked::new(kind, self), length })
        } else {
            Ok(self)
        }
    }
}

/// What names a node: a [`Path`], a string, a [`Text`], or a pair of strings, of which the second is below the first.
pub trait ToPath {
    /// The path.
    fn to_path(&self) -> Path<'_>;
}

impl ToPath for Path<'_> {
    fn to_path(&self) -> Path<'_> {
        *self
    }
}

impl ToPath for str {
    fn to_path(&self) -> Path<'_> {
        Path::new(self)
    }
}

impl<const N: usize> ToPath for Text<N> {
    fn to_path(&self) -> Path<'_> {
        Path::new(self)
    }
}

impl ToPath for (&str, &str) {
    fn to_path(&self) -> Path<'_> {
        Path::new(self.0).join(self.1)
    }
}

impl<T: ToPath + ?Sized> ToPath for &T {
    fn to_path(&self) -> Path<'_> {
        (**self).to_path()
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces().try_for_each(|piece| f.write_str(piece))
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Up to `N` bytes of text, where they are: a node's name with a number in it, a value that is to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

/// Text that had to be cut: it has so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut(pub usize);

impl<const N: usize> Text<N> {
    pub(crate) const EMPTY: Self = Self { bytes: [0; N], length: 0 };

    /// What this is written as.
    ///
    /// # Errors
    ///
    /// It has more bytes than there is room for.
    pub fn of(what: impl fmt::Display) -> Result<Self, Cut> {
        let mut writing = Writing { text: Self::EMPTY, length: 0 };
        // What does not fit is counted; an error is the value's own, which then has written all that it has.
        let _ = fmt::Write::write_fmt(&mut writing, format_args!("{what}"));
        if writing.length > N { Err(Cut(writing.length)) } else { Ok(writing.text) }
    }
}

struct Writing<const N: usize> {
    text: Text<N>,
    /// With what did not fit.
    length: usize,
}

impl<const N: usize> fmt::Write for Writing<N> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let end = self.length.saturating_add(more.len());
        if let Some(room) = self.text.bytes.get_mut(self.length..end) {
            room.copy_from_slice(more.as_bytes());
            self.text.length = end;
        }
        self.length = end;
        Ok(())
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        // It is made of whole strings.
        str::from_utf8(self.bytes.get(..self.length).unwrap_or(&[])).unwrap_or("")
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text of {} bytes, for which there is no room", self.0)
    }
}

impl core::error::Error for Cut {}
