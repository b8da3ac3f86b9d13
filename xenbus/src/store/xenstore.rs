//! What can be asked of xenstore, whoever the client is.
#![forbid(unsafe_code)]

use core::{fmt, future::Future, time::Duration};

use kexec::irql::Dispatch;
use xen_abi::io::xs_wire::{MessageType, XsError};

use super::{
    answer::{self, Names, Number, Piece},
    error::{Asked, Excerpt, StoreError},
    path::{Cut, Text, ToPath},
    permission::Permission,
    request::Request,
    transaction::TransactionError,
    watch::WatchEvent,
};

/// The longest value that [`print`](Xenstore::print) writes, in bytes.
pub const PRINTED: usize = 128;

/// How often a list of children that is too long for one message is begun again, in all, because it has changed
/// meanwhile.
pub const LIST_ATTEMPTS: u32 = 8;

/// The nodes of xenstore: a connection's, or a transaction's view of them.
///
/// What holds for all of these: they are to be polled at `DISPATCH_LEVEL`, as their token says. Their errors are
/// those of every question (there is no connection, no answer comes in time, the path cannot be one) and those that
/// xenstored has: `ENOENT`, if there is no such node; `EACCES`, if the guest may not do that; `ENOSPC` and `ENOMEM`,
/// if a quota is used up; `EIO` and `EINVAL`.
///
/// **Cancel-safe:** a future that is dropped loses its answer; what is a question about something has then been asked
/// or not, and what changes something *may have happened*.
///
/// ```
/// use kexec::irql::Dispatch;
/// use xenbus::store::{Path, StoreError, Xenstore};
///
/// async fn publish(at: &Dispatch, store: &impl Xenstore, queue: Path<'_>, ring: u32) -> Result<(), StoreError> {
///     store.print(at, queue.join("tx-ring-ref"), ring).await?;
///     store.write(at, queue.join("event-channel"), b"7").await
/// }
/// ```
pub trait Xenstore {
    /// Reads the value of a node into `into`, and returns that part of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoRoom`] if the value is longer than `into`, which then has the beginning of it.
    fn read<'b>(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        into: &'b mut [u8],
    ) -> impl Future<Output = Result<&'b [u8], StoreError>>;

    /// Sets the value of a node, and makes it and all above it that are not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLong`] if path and value are longer than 4095 bytes.
    fn write(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        value: &[u8],
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Makes a node without a value, and all above it, if it is not there (`MKDIR`).
    ///
    /// # Errors
    ///
    /// Those of every question.
    fn make(&self, at: &Dispatch, path: impl ToPath) -> impl Future<Output = Result<(), StoreError>>;

    /// Removes a node and all that is below it (`RM`). One that is not there is no error, if its parent is there.
    ///
    /// # Errors
    ///
    /// Those of every question.
    fn remove(&self, at: &Dispatch, path: impl ToPath) -> impl Future<Output = Result<(), StoreError>>;

    /// The names of a node's children, however many there are. They are in `into` after that.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoRoom`] if the names, each with a nul, are longer than `into`; [`StoreError::Changing`] if
    /// there are more than one message has room for, and they were others each of [`LIST_ATTEMPTS`] times; `ENOSYS`,
    /// if xenstored gives such lists to nobody.
    fn directory<'b>(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        into: &'b mut [u8],
    ) -> impl Future<Output = Result<Names<'b>, StoreError>>;

    /// Reads the permissions of a node into `into`, and returns that part of it. The first is its owner's.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoRoom`] if there are more than `into` has room for.
    fn permissions<'b>(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        into: &'b mut [Permission],
    ) -> impl Future<Output = Result<&'b [Permission], StoreError>>;

    /// Sets the permissions of a node, of which the guest is the owner. The first must be its own, too.
    ///
    /// # Errors
    ///
    /// `EPERM`, if it would have another owner.
    fn set_permissions(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        permissions: &[Permission],
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Reads a value that is text, as paths and names are.
    ///
    /// # Errors
    ///
    /// [`StoreError::Value`], which names path and value, if it is no UTF-8; those of [`read`](Self::read).
    fn read_text<'b>(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        into: &'b mut [u8],
    ) -> impl Future<Output = Result<&'b str, StoreError>> {
        async move {
            let path = path.to_path();
            let asked = Asked::new(MessageType::Read, path);
            let value = self.read(at, path, into).await?;
            str::from_utf8(value).map_err(|_| StoreError::Value {
                asked,
                value: value.into(),
                wanted: "text",
            })
        }
    }

    /// Reads a number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Value`], which names path and value, if the value is no such [`Number`].
    fn read_number<T: Number>(
        &self,
        at: &Dispatch,
        path: impl ToPath,
    ) -> impl Future<Output = Result<T, StoreError>> {
        async move {
            let path = path.to_path();
            let mut room = [0; Excerpt::KEPT];
            let asked = Asked::new(MessageType::Read, path);
            let wrong = |value| StoreError::Value { asked, value, wanted: answer::name::<T>() };
            let digits = match self.read(at, path, &mut room).await {
                Ok(value) => value,
                Err(StoreError::NoRoom { needed, .. }) => return Err(wrong(Excerpt::of(&room, needed))),
                Err(error) => return Err(error),
            };
            answer::number(digits).ok_or_else(|| wrong(digits.into()))
        }
    }

    /// Writes what a value is displayed as: a number, or `format_args!("{major}.{minor}")`.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLong`], if that is more than [`PRINTED`] bytes.
    fn print(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        value: impl fmt::Display,
    ) -> impl Future<Output = Result<(), StoreError>> {
        async move {
            let path = path.to_path();
            let text = Text::<PRINTED>::of(value).map_err(|Cut(length)| {
                let asked = Asked::new(MessageType::Write, path);
                StoreError::TooLong { asked, length }
            })?;
            self.write(at, path, text.as_bytes()).await
        }
    }
}

/// A connection to xenstore: its nodes, and what goes beyond a single question.
pub trait Root: Xenstore {
    /// A transaction's view of the nodes.
    type Transaction<'a>: Xenstore
    where
        Self: 'a;
    /// A watch that is set.
    type Watch<'a>: Watching
    where
        Self: 'a;
    /// The same with another patience.
    type Within<'a>: Xenstore
    where
        Self: 'a;

    /// Does several things at once, as far as others can see: all of `work`, or nothing of it.
    ///
    /// `work` is done again, from its beginning, when others have changed what it has looked at or changed itself. If
    /// it fails, nothing of it has happened.
    ///
    /// ```
    /// use kexec::irql::Dispatch;
    /// use xenbus::store::{Root, StoreError, TransactionError, Xenstore};
    ///
    /// async fn count(at: &Dispatch, store: &impl Root) -> Result<u32, TransactionError<StoreError>> {
    ///     store
    ///         .transaction(at, async |tx| {
    ///             let next = tx.read_number::<u32>(at, "data/count").await?.wrapping_add(1);
    ///             tx.print(at, "data/count", next).await?;
    ///             Ok(next)
    ///         })
    ///         .await
    /// }
    /// ```
    ///
    /// **Cancel-safe:** nothing of it happens, unless it is dropped while the commit is on its way; then it *may have
    /// happened*.
    ///
    /// # Errors
    ///
    /// See [`TransactionError`]: only after [`Unknown`](TransactionError::Unknown) it may have happened.
    fn transaction<'a, T, E>(
        &'a self,
        at: &'a Dispatch,
        work: impl AsyncFnMut(&Self::Transaction<'a>) -> Result<T, E>,
    ) -> impl Future<Output = Result<T, TransactionError<E>>>;

    /// Watches a node and all below it. The path may be a special one, such as `@releaseDomain`, if the guest may.
    ///
    /// **Cancel-safe:** nothing is left behind.
    ///
    /// # Errors
    ///
    /// [`StoreError::Watches`] if there is no place for it; [`StoreError::TooLong`] if the path is longer than
    /// [`WATCHED`](super::WATCHED) bytes; what xenstored answers.
    fn watch<'a>(
        &'a self,
        at: &'a Dispatch,
        path: impl ToPath,
    ) -> impl Future<Output = Result<Self::Watch<'a>, StoreError>>;

    /// The same, with another limit to each question than [`PATIENCE`](super::PATIENCE). Time in which the guest does
    /// not run does not count.
    fn within(&self, patience: Duration) -> Self::Within<'_>;
}

/// A watch: [`Watch`](super::Watch), or a double's.
pub trait Watching {
    /// Waits until its owner has to look again, and says why.
    ///
    /// **Cancel-safe:** loses nothing.
    ///
    /// # Errors
    ///
    /// The watch is not set any longer, or could not be set again. Said once; it is tried again with the next
    /// connection.
    fn next(&mut self) -> impl Future<Output = Result<WatchEvent, StoreError>>;
}

/// A client that sends a message and gets its reply: all that it takes to be a [`Xenstore`].
pub trait Ask {
    /// Asks, and does something with the payload of the answer.
    fn ask<T>(
        &self,
        at: &Dispatch,
        request: Request<'_>,
        with: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> impl Future<Output = Result<T, StoreError>>;
}

impl<A: Ask> Xenstore for A {
    async fn read<'b>(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        into: &'b mut [u8],
    ) -> Result<&'b [u8], StoreError> {
        let request = Request::node(MessageType::Read, path.to_path())?;
        let length = self.ask(at, request, |value| copy(&request, value, into)).await?;
        Ok(into.get(..length).unwrap_or(&[]))
    }

    async fn write(&self, at: &Dispatch, path: impl ToPath, value: &[u8]) -> Result<(), StoreError> {
        self.ask(at, Request::node(MessageType::Write, path.to_path())?.value(value), done).await
    }

    async fn make(&self, at: &Dispatch, path: impl ToPath) -> Result<(), StoreError> {
        self.ask(at, Request::node(MessageType::Mkdir, path.to_path())?, done).await
    }

    async fn remove(&self, at: &Dispatch, path: impl ToPath) -> Result<(), StoreError> {
        self.ask(at, Request::node(MessageType::Rm, path.to_path())?, done).await
    }

    async fn directory<'b>(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        into: &'b mut [u8],
    ) -> Result<Names<'b>, StoreError> {
        let request = Request::node(MessageType::Directory, path.to_path())?;
        let list = |list: &[u8]| {
            Names::parse(list).ok_or_else(|| nonsense(&request, list))?;
            copy(&request, list, into)
        };
        let mut length = self.ask(at, request, list).await;
        if let Err(StoreError::Refused { error: XsError::E2BIG, .. }) = length {
            length = in_pieces(self, at, request.of(MessageType::DirectoryPart), into).await;
        }
        let length = length?;
        let list = into.get(..length).unwrap_or(&[]);
        Names::parse(list).ok_or_else(|| nonsense(&request, list))
    }

    async fn permissions<'b>(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        into: &'b mut [Permission],
    ) -> Result<&'b [Permission], StoreError> {
        let request = Request::node(MessageType::GetPerms, path.to_path())?;
        let mut places = into.iter_mut();
        let list = |list: &[u8]| {
            let count = answer::permissions(list, |permission| {
                if let Some(place) = places.next() {
                    *place = permission;
                }
            });
            count.ok_or_else(|| nonsense(&request, list))
        };
        let needed = self.ask(at, request, list).await?;
        into.get(..needed).ok_or(StoreError::NoRoom { asked: request.asked(), needed })
    }

    async fn set_permissions(
        &self,
        at: &Dispatch,
        path: impl ToPath,
        permissions: &[Permission],
    ) -> Result<(), StoreError> {
        self.ask(at, Request::node(MessageType::SetPerms, path.to_path())?.permissions(permissions), done)
            .await
    }
}

/// Asks for a list of children piece by piece (`DIRECTORY_PART`), from its beginning if it has changed meanwhile.
async fn in_pieces(
    client: &impl Ask,
    at: &Dispatch,
    request: Request<'_>,
    into: &mut [u8],
) -> Result<usize, StoreError> {
    'again: for _ in 0..LIST_ATTEMPTS {
        let mut length = 0;
        let mut list = None;
        // Each piece is longer than nothing, so that this comes to the end of the list or of the room.
        loop {
            let offset = Text::<20>::of(length).unwrap_or(Text::EMPTY);
            let more = |answer: &[u8]| {
                let piece = Piece::parse(answer).ok_or_else(|| nonsense(&request, answer))?;
                let needed = piece.names.len().saturating_add(length);
                let room = into.get_mut(length..needed);
                room.ok_or(StoreError::NoRoom { asked: request.asked(), needed })?
                    .copy_from_slice(piece.names);
                Ok((needed, piece.generation, piece.is_last))
            };
            let (end, generation, is_last) = client.ask(at, request.string(&offset), more).await?;
            if *list.get_or_insert(generation) != generation {
                continue 'again;
            }
            if is_last {
                return Ok(end);
            }
            length = end;
        }
    }
    Err(StoreError::Changing(request.asked()))
}

/// Copies as much as there is room for.
fn copy(request: &Request<'_>, from: &[u8], into: &mut [u8]) -> Result<usize, StoreError> {
    for (to, from) in into.iter_mut().zip(from) {
        *to = *from;
    }
    let needed = from.len();
    if needed > into.len() { Err(StoreError::NoRoom { asked: request.asked(), needed }) } else { Ok(needed) }
}

fn nonsense(request: &Request<'_>, answer: &[u8]) -> StoreError {
    StoreError::Nonsense { asked: request.asked(), answer: answer.into() }
}

/// The answer is that it was done. (Its payload is `OK`, which nobody looks at: a refusal has another type.)
#[expect(clippy::unnecessary_wraps, reason = "answers can be wrong")]
const fn done(_: &[u8]) -> Result<(), StoreError> {
    Ok(())
}
