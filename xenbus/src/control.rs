//! What a guest and its toolstack say to each other in xenstore: requests to suspend or shut down, what the guest
//! does when it is asked to, and which drivers it has.
//!
//! [`Control`] is one driver's, or an agent's, part of that. It publishes what its owner has to say, takes the
//! requests that are for its owner, and begins again in each [epoch](crate::epoch), where the toolstack has emptied
//! everything.
//!
//! ```
//! use kexec::irql::Dispatch;
//! use xenbus::{
//!     control::{Control, Distribution, Features, News, Owner, Request, Words},
//!     epoch::Epochs,
//!     store::Root,
//! };
//!
//! const XENBUS: Distribution = match Distribution::new("Xen_Project", "XENBUS", [9, 1, 0, 0]) {
//!     Ok(driver) => driver,
//!     Err(_) => panic!("these are names"),
//! };
//!
//! /// A task of the bus driver's. It ends when it is cancelled, after the store has got its last words.
//! async fn control(at: &Dispatch, store: &impl Root, epochs: &Epochs) {
//!     let owner = Owner { features: Features::SUSPEND, words: Words::SUSPEND, driver: XENBUS };
//!     Control::new(at, store, epochs, owner)
//!         .serve(async |news| match news {
//!             News::Asked(Request::Suspend) => { /* see `xenbus::suspend`, and wait for it */ }
//!             news => { /* into the log */ }
//!         })
//!         .await;
//! }
//! ```
//!
//! - `request`: `control/shutdown`;
//! - `feature`: `control/feature-*`;
//! - `distribution`: `drivers/<n>`.
//!
//! `control/sysrq` is not listened to: what is written there are keys of Linux.
#![forbid(unsafe_code)]

mod distribution;
mod feature;
mod request;

use core::{fmt, future::pending, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use kexec::{
    Cancelled,
    irql::Dispatch,
    shielded,
    time::{sleep, timeout},
    until_cancelled,
};
use xen_abi::io::xs_wire::XsError;

pub use self::{
    distribution::{BadName, DRIVERS_MAX, Distribution, NAME_MAX},
    feature::Features,
    request::{Request, Words},
};
use self::{
    feature::Published,
    request::{Requests, SHUTDOWN},
};
use crate::{
    epoch::{Epoch, Epochs},
    store::{PATIENCE, Root, StoreError, TransactionError, Watching},
};

/// How long it waits after something has failed, before it tries again.
pub const PAUSE: Duration = Duration::from_secs(5);

/// What somebody has to say and wants to hear.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// What is published for this owner, and no other.
    pub features: Features,
    /// What this owner is asked for, and no other.
    pub words: Words,
    /// The driver.
    pub driver: Distribution,
}

/// What there is to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The toolstack asks for this. It has been told that the guest will do it.
    Asked(Request),
    /// All has been published that can be.
    Published {
        /// In this epoch.
        epoch: Epoch,
        /// What the guest may not publish. It does it all the same, when it is asked to.
        refused: Features,
        /// At which index the driver is.
        driver: Result<u8, NotPublished>,
    },
    /// Something has failed. It is tried again after [`PAUSE`], or sooner.
    Failed(TransactionError<StoreError>),
}

/// Why a driver is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPublished {
    /// There are [`DRIVERS_MAX`] others.
    Full,
    /// The guest may not.
    Forbidden(StoreError),
}

/// Why something is still published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWithdrawn {
    /// Xenstored did not do it.
    Failed(TransactionError<StoreError>),
    /// It took longer than this.
    TimedOut(Duration),
}

/// One owner's part of what is said.
pub struct Control<'a, S: Root> {
    at: &'a Dispatch,
    store: &'a S,
    epochs: &'a Epochs,
    driver: Distribution,
    features: Published,
    requests: Requests,
    watch: Option<S::Watch<'a>>,
    /// In which all has been published.
    published: Option<Epoch>,
    look: Look,
}

/// When there may be news.
#[derive(Clone, Copy, Debug)]
enum Look {
    Now,
    /// When the watch says so, which it does in a new domain, too.
    AtSign,
    /// As above, or after a [`PAUSE`].
    AfterPause,
}

impl<'a, S: Root> Control<'a, S> {
    /// Nothing is said before the first call of [`next`](Self::next).
    pub const fn new(at: &'a Dispatch, store: &'a S, epochs: &'a Epochs, owner: Owner) -> Self {
        Self {
            at,
            store,
            epochs,
            driver: owner.driver,
            features: Published::new(owner.features),
            requests: Requests::new(owner.words),
            watch: None,
            published: None,
            look: Look::Now,
        }
    }

    /// Tells its owner the [news](Self::next), one after the other, until the task is asked to end; then
    /// [stops](Self::stop). What the owner does with news is not waited for then, but dropped at its next await.
    ///
    /// **Cancel-safe:** it is [shielded] from the task's cancellation; dropped by something else, what was published
    /// stays.
    ///
    /// # Errors
    ///
    /// Something is still published.
    pub async fn serve(mut self, mut owner: impl AsyncFnMut(News)) -> Result<(), NotWithdrawn> {
        shielded(async {
            let news = async {
                loop {
                    owner(self.next().await).await;
                }
            };
            let Err(Cancelled) = until_cancelled(news).await;
            self.stop().await
        })
        .await
    }

    /// Waits for news.
    ///
    /// **Cancel-safe:** nothing is lost.
    pub async fn next(&mut self) -> News {
        loop {
            self.sign().await;
            self.look = Look::Now;
            match self.news().await {
                Ok(Some(news)) => return news,
                Ok(None) => self.look = Look::AtSign,
                Err(error) => {
                    self.look = Look::AfterPause;
                    return News::Failed(error);
                }
            }
        }
    }

    /// Withdraws what was published, within [`PATIENCE`]. If the guest moves meanwhile, nothing is published any more.
    ///
    /// **Cancel-safe:** some of it may be withdrawn then.
    ///
    /// # Errors
    ///
    /// Something is still published.
    pub async fn stop(mut self) -> Result<(), NotWithdrawn> {
        self.watch = None;
        let epoch = self.epochs.now();
        let withdrawn = async {
            let features = self.features.withdraw(self.at, self.store).await;
            self.driver.withdraw(self.at, self.store).await?;
            features.map_err(TransactionError::Aborted)
        };
        match timeout(PATIENCE, withdrawn).await {
            Ok(Ok(())) => Ok(()),
            _ if self.epochs.now() != epoch => Ok(()),
            Ok(Err(error)) => Err(NotWithdrawn::Failed(error)),
            Err(_) => Err(NotWithdrawn::TimedOut(PATIENCE)),
        }
    }

    /// Waits until there may be news.
    async fn sign(&mut self) {
        let pause = match self.look {
            Look::Now => return,
            Look::AtSign => None,
            Look::AfterPause => Some(PAUSE),
        };
        let is_lost = {
            let watched = pin!(if_any(self.watch.as_mut().map(Watching::next)));
            let pause = pin!(if_any(pause.map(sleep)));
            matches!(select(watched, pause).await, Either::Left((Err(_), _)))
        };
        if is_lost {
            // It is set anew.
            self.watch = None;
        }
    }

    /// Looks for news once. Requests come first, since nothing that fails may keep the guest from doing what it is
    /// asked for.
    async fn news(&mut self) -> Result<Option<News>, TransactionError<StoreError>> {
        let (at, store, epoch) = (self.at, self.store, self.epochs.now());
        let watched = self.set_watch().await;
        if let Some(request) = self.requests.take(at, store, self.epochs).await? {
            return Ok(Some(News::Asked(request)));
        }
        if self.published != Some(epoch) {
            let news = self.publish(epoch).await?;
            self.published = Some(epoch);
            return Ok(Some(news));
        }
        watched.map(|()| None).map_err(TransactionError::Aborted)
    }

    async fn set_watch(&mut self) -> Result<(), StoreError> {
        if self.watch.is_none() {
            self.watch = Some(self.store.watch(self.at, SHUTDOWN).await?);
        }
        Ok(())
    }

    async fn publish(&mut self, epoch: Epoch) -> Result<News, TransactionError<StoreError>> {
        let refused = self.features.publish(self.at, self.store).await.map_err(TransactionError::Aborted)?;
        let driver = match self.driver.publish(self.at, self.store).await {
            Ok(index) => index.ok_or(NotPublished::Full),
            Err(TransactionError::Aborted(error)) if is_forbidden(&error) => {
                Err(NotPublished::Forbidden(error))
            }
            Err(error) => return Err(error),
        };
        Ok(News::Published { epoch, refused, driver })
    }
}

/// Waits for ever, if there is nothing to wait for.
async fn if_any<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// Whether it will not be done for this guest, however often it asks.
const fn is_forbidden(error: &StoreError) -> bool {
    matches!(error.refusal(), Some(XsError::EACCES | XsError::EPERM | XsError::EROFS | XsError::ENOSPC))
}

impl<S: Root> fmt::Debug for Control<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("driver", &self.driver)
            .field("published", &self.published)
            .field("look", &self.look)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(request) => write!(f, "the toolstack asks for {request}"),
            Self::Published { refused, driver, .. } => {
                match driver {
                    Ok(index) => write!(f, "the driver is published at index {index}")?,
                    Err(why) => write!(f, "the driver is not published: {why}")?,
                }
                if refused.is_empty() { Ok(()) } else { write!(f, "; the guest may not publish {refused:?}") }
            }
            Self::Failed(error) => write!(f, "{SHUTDOWN}: {error}; it is tried again in {PAUSE:?}"),
        }
    }
}

impl fmt::Display for NotPublished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "{DRIVERS_MAX} others are; remove those that are not there any more"),
            Self::Forbidden(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for NotPublished {}

impl fmt::Display for NotWithdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "what was published is still there: {error}"),
            Self::TimedOut(after) => write!(f, "what was published is still there after {after:?}"),
        }
    }
}

impl core::error::Error for NotWithdrawn {}
