//! Devices that come and go: the children of a directory of the store.
//!
//! `device` has a directory for each class of devices, and that one for each device of the class.
//!
//! The store says which names there are, and not whether what has a name is what had it before: a device that is
//! taken away and made anew between two looks has never been away. Who serves it finds out, and says so with
//! [`Children::ended`].
#![forbid(unsafe_code)]

use core::{convert::Infallible, fmt, mem, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use heapless::Vec;
use kexec::{
    irql::Dispatch,
    sync::{AutoEvent, SpinLock},
    time::{Instant, now, sleep, timeout_at},
};
use xen_abi::io::xs_wire::XsError;

use crate::store::{Names, Root, StoreError, Text, Watching, Xenstore};

/// The longest name of a class or a device, in bytes: `vif`, `51712`.
pub const NAME: usize = 32;

/// The name of a child: as the store has it, be it the number of a device or anything else.
pub type Name = Text<NAME>;

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there now.
    Arrived(Name),
    /// It is not there any more. One of the same name may arrive next.
    Departed(Name),
    /// What is there cannot be told, or not all of it.
    Trouble(Trouble),
}

/// Why it cannot be told what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The store did not answer, or has more names than there is room for. It is asked again every [`RETRY`], and
    /// nothing is known to have changed before.
    Store(StoreError),
    /// A name has so many bytes. All others are told.
    Name(usize),
    /// There are more children than so many. That many are told; the next one, when one of them has departed.
    TooMany(usize),
}

/// How long it is waited before what went wrong is tried again, and before a device that has ended and is still there
/// is told anew.
pub const RETRY: Duration = Duration::from_secs(10);

/// The children of a directory, of which up to `N` can be told apart.
///
/// ```no_run
/// use kexec::irql::Dispatch;
/// use xenbus::{bus::children::{Change, Children}, store::Root};
///
/// async fn disks(at: &Dispatch, store: &impl Root) {
///     let disks = Children::<16>::new("device/vbd", &[]);
///     let mut room = [0; 1024];
///     disks
///         .follow(at, store, &mut room, async |change| match change {
///             // Has it served by a task, which says at its end: `disks.ended(at, &name)`.
///             Change::Arrived(name) => drop(name),
///             Change::Departed(_) | Change::Trouble(_) => {}
///         })
///         .await;
/// }
/// ```
#[derive(Debug)]
pub struct Children<'c, const N: usize> {
    directory: &'c str,
    always: &'c [&'c str],
    ended: SpinLock<Vec<Name, N>>,
    bell: AutoEvent,
}

/// A child that is there.
#[derive(Clone, Copy, Debug)]
struct Child {
    name: Name,
    /// It was told as arrived. If not, somebody has served it to its end, and may have been too early to see the next
    /// of that name.
    is_told: bool,
}

impl<'c, const N: usize> Children<'c, N> {
    /// Those of this directory. `always` are there whatever the store says, such as the classes of devices that no
    /// toolstack makes.
    #[must_use]
    pub const fn new(directory: &'c str, always: &'c [&'c str]) -> Self {
        Self { directory, always, ended: SpinLock::new(Vec::new()), bell: AutoEvent::new(false) }
    }

    /// Who has served a device says that it is not there any more: it is told as departed, if it was not yet. If one
    /// of that name is there after it was away, it is told as arrived at once; if it never seems to have been away,
    /// after [`RETRY`].
    ///
    /// At `DISPATCH_LEVEL`. What is said of others than those that are there is not heard.
    pub fn ended(&self, at: &Dispatch, name: &str) {
        let Ok(name) = Name::of(name) else { return };
        let mut ended = self.ended.lock(at);
        if !ended.contains(&name) && ended.push(name).is_err() {
            // Each of those that are there has a place.
            return;
        }
        drop(ended);
        self.bell.set();
    }

    /// Tells of each child that comes or goes, for ever. Each is told as arrived before it is told as departed, and
    /// by turns. A suspend changes nothing, unless others are there after it: who serves a device finds its other
    /// backend.
    ///
    /// `room` is for the list of names, each with a nul. A trouble is told once, until it is over or another.
    ///
    /// **Cancel-safe:** loses what it knows: called again, it tells of all that are there.
    pub async fn follow<S: Root>(
        &self,
        at: &Dispatch,
        store: &S,
        room: &mut [u8],
        tell: impl AsyncFnMut(Change),
    ) -> ! {
        let mut followed = Followed { children: self, known: Vec::new(), trouble: None, again: None, tell };
        loop {
            match store.watch(at, self.directory).await {
                Ok(mut watch) => {
                    let Err(error) = followed.until_lost(at, store, &mut watch, room).await;
                    followed.trouble(Trouble::Store(error)).await;
                }
                Err(error) => followed.trouble(Trouble::Store(error)).await,
            }
            sleep(RETRY).await;
        }
    }
}

/// What was told of a directory's children.
struct Followed<'f, 'c, const N: usize, T> {
    children: &'f Children<'c, N>,
    known: Vec<Child, N>,
    /// What was told last, if it is not over.
    trouble: Option<Trouble>,
    /// When it is looked again, whether or not something has changed.
    again: Option<Instant>,
    tell: T,
}

impl<const N: usize, T: AsyncFnMut(Change)> Followed<'_, '_, N, T> {
    /// Looks whenever something may have changed, for as long as the store says so.
    async fn until_lost(
        &mut self,
        at: &Dispatch,
        store: &impl Xenstore,
        watch: &mut impl Watching,
        room: &mut [u8],
    ) -> Result<Infallible, StoreError> {
        loop {
            self.take_ended(at).await;
            let is_due = match self.again {
                Some(again) if again <= now().await => self.again.take().is_some(),
                _ => false,
            };
            match store.directory(at, self.children.directory, room).await {
                Ok(names) => self.compare(Some(names), is_due).await,
                Err(error) if error.refusal() == Some(XsError::ENOENT) => self.compare(None, is_due).await,
                Err(error) => self.trouble(Trouble::Store(error)).await,
            }
            let waits = matches!(self.trouble, Some(Trouble::Store(_)))
                || self.known.iter().any(|child| !child.is_told);
            if waits && self.again.is_none() {
                self.again = Some(now().await.after(RETRY));
            }
            let (event, ended) = (pin!(watch.next()), pin!(self.children.bell.wait()));
            let news = timeout_at(self.again.unwrap_or(Instant::NEVER), select(event, ended)).await;
            if let Ok(Either::Left((Err(lost), _))) = news {
                return Err(lost);
            }
        }
    }

    /// Who has ended has departed.
    async fn take_ended(&mut self, at: &Dispatch) {
        loop {
            // Nobody waits for the lock while somebody is told.
            let ended = self.children.ended.lock(at).pop();
            let Some(ended) = ended else { return };
            let mut told = self.known.iter_mut().filter(|child| child.is_told);
            if let Some(child) = told.find(|child| child.name == ended) {
                child.is_told = false;
                (self.tell)(Change::Departed(ended)).await;
            }
        }
    }

    /// Compares what is there with what is known. If it is due, who has ended and is still there is another.
    async fn compare(&mut self, names: Option<Names<'_>>, is_due: bool) {
        let always = self.children.always;
        let there = || always.iter().copied().chain(names.clone().into_iter().flatten());
        // Who has gone makes room for who comes.
        let mut index = 0;
        while let Some(Child { name, is_told }) = self.known.get(index).copied() {
            if there().any(|there| *there == *name) {
                index = index.saturating_add(1);
                continue;
            }
            self.known.swap_remove(index);
            if is_told {
                (self.tell)(Change::Departed(name)).await;
            }
        }
        let mut trouble = None;
        for name in there() {
            let Ok(name) = Name::of(name) else {
                trouble = Some(Trouble::Name(name.len()));
                continue;
            };
            let arrives = match self.known.iter_mut().find(|child| child.name == name) {
                Some(child) if is_due => !mem::replace(&mut child.is_told, true),
                Some(_) => false,
                None => {
                    self.known.push(Child { name, is_told: true }).is_ok() || {
                        trouble = Some(Trouble::TooMany(N));
                        false
                    }
                }
            };
            if arrives {
                (self.tell)(Change::Arrived(name)).await;
            }
        }
        match trouble {
            Some(trouble) => self.trouble(trouble).await,
            None => self.trouble = None,
        }
    }

    async fn trouble(&mut self, trouble: Trouble) {
        if self.trouble.replace(trouble) != Some(trouble) {
            (self.tell)(Change::Trouble(trouble)).await;
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Name(bytes) => write!(f, "a device's name of {bytes} bytes; {NAME} are the most"),
            Self::TooMany(most) => write!(f, "more devices than {most}, for which there is room"),
        }
    }
}

impl core::error::Error for Trouble {}
