//! The services of the bus driver, as its own children see them.
#![forbid(unsafe_code)]

use core::future::Future;

use kexec::irql::Dispatch;
use xen_abi::{domid::DomId, event_channel::EvtchnPort, grant_table::GrantRef, seam::NoMemory};

use super::{Bus, Cache, Channel, Native, SharedPage};
use crate::{
    epoch::Epochs,
    event::{self, ChannelError, Disconnected, OpenError, Worked},
    grant::{GrantCache, Held, Lender, Loan, Peer, Rights, ShareError, Shared, Trusted},
    page::{Ram, Seam},
    store::Store,
};

impl<P: Seam> Bus for &'static Native<P> {
    type Store = Store<P>;
    type Channel = event::Channel<P>;
    type Shared = Shared<P>;
    type Cache<const N: usize> = GrantCache<P, N>;

    fn store(&self) -> &Store<P> {
        self.store
    }

    fn epochs(&self) -> &Epochs {
        Native::epochs(self)
    }

    fn open(&self, at: &Dispatch, remote: DomId) -> Result<event::Channel<P>, OpenError> {
        self.events.unbound(at, remote)
    }

    fn share(&self, at: &Dispatch, with: Peer, rights: Rights) -> Result<Shared<P>, ShareError> {
        self.cache::<1>().share(at, with, rights)
    }

    fn cache<const N: usize>(&self) -> GrantCache<P, N> {
        GrantCache::new(self.grants)
    }
}

impl<P: Seam> Channel for event::Channel<P> {
    fn port(&self) -> EvtchnPort {
        self.port()
    }

    fn next(&self, at: &Dispatch, worked: Worked) -> impl Future<Output = Result<(), Disconnected>> {
        self.next(at, worked)
    }

    fn notify(&self, at: &Dispatch) -> Result<(), ChannelError> {
        self.notify(at)
    }

    fn bind(&self, at: &Dispatch, place: usize) -> Result<(), ChannelError> {
        self.bind(at, place).map(drop)
    }
}

impl<P: Seam> SharedPage for Shared<P> {
    fn reference(&self) -> GrantRef {
        self.reference()
    }
}

impl<P: Seam, const C: usize> Cache for GrantCache<P, C> {
    type Shared = Shared<P>;
    type Loan<T: Lender, const N: usize> = Loan<P, T, N>;

    fn reserve(&mut self, at: &Dispatch, references: usize) -> Result<(), ShareError> {
        self.reserve(at, references)
    }

    fn share(&mut self, at: &Dispatch, with: Peer, rights: Rights) -> Result<Shared<P>, ShareError> {
        let page = Ram::allocate(self.grants().platform()).map_err(|NoMemory| ShareError::NoMemory)?;
        Shared::new(self, at, with, page, rights).map_err(|unshared| unshared.error)
    }

    fn unshare(&mut self, at: &Dispatch, shared: Shared<P>) -> Result<(), Held<Shared<P>>> {
        shared.end(self, at).map(drop)
    }

    fn loan<T: Lender, const N: usize>(&self, to: Trusted, lender: T) -> Loan<P, T, N> {
        Loan::new(self, to, lender)
    }

    fn lend<T: Lender, const N: usize>(
        &mut self,
        at: &Dispatch,
        loan: &mut Loan<P, T, N>,
        page: usize,
        rights: Rights,
    ) -> Result<GrantRef, ShareError> {
        loan.lend(self, at, page, rights)
    }

    fn take_back<T: Lender, const N: usize>(
        &mut self,
        at: &Dispatch,
        loan: Loan<P, T, N>,
    ) -> Result<T, Held<Loan<P, T, N>>> {
        loan.end(self, at)
    }
}
