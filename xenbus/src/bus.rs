//! What the driver of a device has of Xen.
//!
//! It sees a [`Bus`], and no hypervisor. Inside of the bus driver that is the services themselves, which [`Native`] ties
//! together; in an image of its own, an interface to them; in a test, a simulation. No Rust type crosses from image to
//! image.
//!
//! - [`Bus`]: xenstore, epochs, event channels, pages that are shared;
//! - [`Native`]: that, and the services' own life from start to stop, through suspends;
//! - [`children`]: devices that come and go.
#![forbid(unsafe_code)]

pub mod children;
mod native;

use core::future::Future;

use kexec::irql::Dispatch;
use xen_abi::{domid::DomId, event_channel::EvtchnPort, grant_table::GrantRef, seam::Access};

pub use self::native::{Native, StartError};
use crate::{
    epoch::Epochs,
    event::{ChannelError, Disconnected, OpenError, Worked},
    grant::{Peer, Rights, ShareError},
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
}

/// An event channel. It is closed when it is dropped.
pub trait Channel {
    /// What the other end is told. Callable at any level.
    fn port(&self) -> EvtchnPort;

    /// Says whether the last event has brought something to do, and waits for the next one. Events that bring nothing are let come less and less
    /// often.
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

/// A page of the driver's own that another domain may use. When it is dropped that ends; if the other domain does not let go of it, neither the page
/// nor its reference is used again before it does.
pub trait SharedPage {
    /// Its bytes, which the other domain may change at any time.
    type Page: Access;

    /// What the other domain is told. Callable at any level.
    fn reference(&self) -> GrantRef;

    /// The bytes. Callable at any level.
    fn page(&self) -> &Self::Page;
}
