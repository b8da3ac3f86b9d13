//! What a leaf future is, and where it was made.
#![forbid(unsafe_code)]

use core::{fmt, panic::Location, task::Context};

use crate::task::Task;

/// What a leaf future waits for, in a word or two. It has to be a `static`, so that the table can refer to it.
///
/// ```
/// use kexec::task_table::Kind;
///
/// static RESPONSE: Kind = Kind::new("ring response");
/// ```
#[derive(PartialEq, Eq)]
#[repr(transparent)]
pub struct Kind(&'static str);

impl Kind {
    /// A kind of that name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a leaf future shows of itself: its kind, and the place in the source where it was made.
///
/// The function that makes the leaf is a plain `fn` with `#[track_caller]`, so that the place is its caller's:
///
/// ```
/// use core::{future::Future, pin::Pin, task::{Context, Poll}};
/// use kexec::task_table::{Kind, Leaf};
///
/// struct Response {
///     leaf: Leaf,
/// }
///
/// #[track_caller]
/// fn response() -> Response {
///     static RESPONSE: Kind = Kind::new("ring response");
///     Response { leaf: Leaf::new(&RESPONSE) }
/// }
///
/// impl Future for Response {
///     type Output = ();
///
///     fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
///         // Nothing has come yet; whoever brings it has the waker.
///         self.leaf.park(cx);
///         Poll::Pending
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// See [`leaf_word`](super::anchor::leaf_word).
    #[cfg(feature = "table")]
    word: u64,
}

impl Leaf {
    /// A leaf of this kind, made by the caller of the caller.
    #[inline]
    #[must_use]
    #[track_caller]
    pub fn new(kind: &'static Kind) -> Self {
        Self::at(kind, Location::caller())
    }

    /// A leaf of this kind, made there.
    #[inline]
    #[must_use]
    pub fn at(kind: &'static Kind, place: &'static Location<'static>) -> Self {
        #[cfg(feature = "table")]
        return Self { word: super::anchor::leaf_word(kind, place) };
        #[cfg(not(feature = "table"))]
        {
            let _ = (kind, place);
            Self {}
        }
    }

    /// Notes that the task parks here: to be called when a poll is about to return `Pending`. A store, and
    /// nothing for a waker that is not a task's.
    #[inline]
    pub fn park(&self, cx: &Context<'_>) {
        #[cfg(feature = "table")]
        if let Some(task) = Task::of(cx.waker()) {
            task.header().record.park(self.word);
        }
        #[cfg(not(feature = "table"))]
        let _ = (cx, Task::of);
    }
}
