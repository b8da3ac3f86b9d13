//! What the driver of a device has of Xen.
//!
//! It sees a [`Bus`], and no hypervisor. Inside of the bus driver that is the services themselves, which [`Native`]
//! ties together; in an image of its own, an interface to them; in a test, a simulation. No Rust type crosses from
//! image to image.
//!
//! - [`Bus`]: xenstore, epochs, [event channels](Channel), [pages that are shared](SharedPage), and what a
//!   [queue](Cache) grants;
//! - [`Native`]: that, and the services' own life from start to stop, through suspends;
//! - [`children`]: devices that come and go.
#![forbid(unsafe_code)]

pub mod children;
mod local;
mod native;

use core::{fmt, future::Future, ops::Deref};

use kexec::irql::Dispatch;
use xen_abi::{domid::DomId, event_channel::EvtchnPort, grant_table::GrantRef, seam::Access};

pub use self::native::{Native, StartError};
use crate::{
    epoch::Epochs,
    event::{ChannelError, Disconnected, OpenError, Worked},
    grant::{Held, Lender, Peer, Rights, ShareError, Trusted},
    store::Root,
};

/// A bus, as the drivers of its devices see it.
///
/// It is a handle, and cheap to clone.
pub trait Bus: Clone {
    /// Xenstore.
    type Store: Root;
    /// An event channel.
    type Channel: Channel;
    /// A page of the driver's own that another domain may use.
    type Shared: SharedPage;
    /// Up to `N` grant references of one queue.
    type Cache<const N: usize>: Cache<Shared = Self::Shared>;

    /// Xenstore. Callable at any level.
    fn store(&self) -> &Self::Store;

    /// Which epoch it is: see [`epoch`](crate::epoch). Callable at any level.
    fn epochs(&self) -> &Epochs;

    /// Makes an event channel that a domain can connect with.
    ///
    /// # Errors
    ///
    /// There is none to be had.
    fn open(&self, at: &Dispatch, remote: DomId) -> Result<Self::Channel, OpenError>;

    /// Shares a new page of zeros with another domain.
    ///
    /// # Errors
    ///
    /// There is no memory, or no reference.
    fn share(&self, at: &Dispatch, with: Peer, rights: Rights) -> Result<Self::Shared, ShareError>;

    /// An empty cache, for a queue that grants pages again and again. Callable at any level.
    fn cache<const N: usize>(&self) -> Self::Cache<N>;
}

/// An event channel. It is closed when it is dropped.
pub trait Channel: fmt::Debug {
    /// What the other end is told. Callable at any level.
    fn port(&self) -> EvtchnPort;

    /// Says whether the last event has brought something to do, and waits for the next one. Events that bring nothing
    /// are let come less and less often.
    ///
    /// **Cancel-safe:** no event is lost.
    ///
    /// # Errors
    ///
    /// The guest was suspended, and is another domain now.
    fn next(&self, at: &Dispatch, worked: Worked) -> impl Future<Output = Result<(), Disconnected>>;

    /// Notifies the other end.
    ///
    /// # Errors
    ///
    /// The guest was suspended, and is another domain now; or Xen refuses.
    fn notify(&self, at: &Dispatch) -> Result<(), ChannelError>;

    /// Lets the virtual CPU at this place of the bus's list have the events, if it can.
    ///
    /// # Errors
    ///
    /// There is no such place; the guest was suspended; or Xen refuses.
    fn bind(&self, at: &Dispatch, place: usize) -> Result<(), ChannelError>;
}

/// A page of the driver's own that another domain may use; what it derefs to are its bytes, which that one may change
/// at any time.
///
/// When it is dropped that ends; if the other domain does not let go of it, neither the page nor its reference is used
/// again before it does.
pub trait SharedPage: Deref<Target: Access> + fmt::Debug {
    /// What the other domain is told. Callable at any level.
    fn reference(&self) -> GrantRef;
}

/// What one queue grants, by references that are its own: nobody else is met. See [`grant`](crate::grant).
pub trait Cache {
    /// A page of the driver's own that is shared.
    type Shared: SharedPage;
    /// Pages of a lender's, up to `N` of which are lent. Dropped, it takes them back; if that fails, the lender is
    /// kept for ever.
    type Loan<T: Lender, const N: usize>: fmt::Debug;

    /// Sees to it that so many pages can be granted at a time, whatever others take.
    ///
    /// # Errors
    ///
    /// There are not so many references, or the cache has no room for them. It is as it was.
    fn reserve(&mut self, at: &Dispatch, references: usize) -> Result<(), ShareError>;

    /// Shares a new page of zeros.
    ///
    /// # Errors
    ///
    /// There is no memory, or no reference.
    fn share(&mut self, at: &Dispatch, with: Peer, rights: Rights) -> Result<Self::Shared, ShareError>;

    /// Ends that, and gives the page back.
    ///
    /// # Errors
    ///
    /// The other domain has not let go of it. It can be tried again, or dropped.
    fn unshare(&mut self, at: &Dispatch, shared: Self::Shared) -> Result<(), Held<Self::Shared>>;

    /// A loan of nothing yet, to a domain that is trusted with it. Callable at any level.
    fn loan<T: Lender, const N: usize>(&self, to: Trusted, lender: T) -> Self::Loan<T, N>;

    /// Lends one of the lender's pages: the number is for the other domain.
    ///
    /// # Errors
    ///
    /// There is no reference to be had, the page is too high, the lender has none of this index, or `N` are lent. The
    /// loan is as it was.
    fn lend<T: Lender, const N: usize>(
        &mut self,
        at: &Dispatch,
        loan: &mut Self::Loan<T, N>,
        page: usize,
        rights: Rights,
    ) -> Result<GrantRef, ShareError>;

    /// Takes the pages back, and gives the lender out.
    ///
    /// # Errors
    ///
    /// The other domain has not let go of one of them. The others are taken back; it can be tried again.
    fn take_back<T: Lender, const N: usize>(
        &mut self,
        at: &Dispatch,
        loan: Self::Loan<T, N>,
    ) -> Result<T, Held<Self::Loan<T, N>>>;
}
