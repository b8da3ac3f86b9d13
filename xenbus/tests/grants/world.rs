//! A guest with a grant table, without executors.
#![forbid(unsafe_code)]

use kexec::{
    irql::Dispatch,
    platform::{
        mock::keep,
        thread::{Thread, passive},
    },
};
use xen_abi::{
    DomId, GrantRef,
    seam::{Access as _, Place},
};
use xen_harness::Alone;
use xen_sim::{Access, Dom0, Guest, GuestConfig, GuestFrame, Machine, Mapping, Suspend as Becomes};
use xenbus::{
    grant::{Frame, GrantCache, Grants, Peer, Rights, ShareError, Shared},
    page::{Ram, Seam},
    suspend::{Suspend, Suspended},
};

use crate::platform::Platform;

/// The control domain.
pub(crate) const DOM0: Peer = Peer::trusted(DomId(0));

/// Does something at `DISPATCH_LEVEL`.
pub(crate) fn dispatch<R>(work: impl FnOnce(&Dispatch) -> R) -> R {
    passive(|passive| passive.raised(&Thread::<Dispatch>::new(), |at| work(at)))
}

/// So many frames, for a table.
pub(crate) fn frames<P: Seam>(count: usize) -> &'static [Frame<P>] {
    keep((0..count).map(|_| Frame::new()).collect::<Vec<_>>())
}

/// A guest, and its grant table.
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) guest: Guest,
    pub(crate) platform: Platform,
    pub(crate) suspend: &'static Suspend,
    pub(crate) grants: &'static Grants<Platform>,
}

impl World {
    /// With so many frames of the driver's, of so many that Xen allows.
    pub(crate) fn new(frames_lent: usize, frames_allowed: u32) -> Self {
        let machine = Machine::new(0);
        let guest = machine.create(GuestConfig { grant_frames: frames_allowed, ..GuestConfig::default() });
        let suspend: &Suspend = keep(Suspend::new());
        let platform = Platform::new(guest.clone());
        let grants = Grants::new(platform.clone(), suspend.epochs(), frames(frames_lent));
        let grants: &Grants<Platform> = keep(grants.expect("Xen has a table"));
        let listens = keep(dispatch(|at| suspend.register(at, grants)));
        assert!(listens.is_ok(), "it is the first");
        Self { machine, guest, platform, suspend, grants }
    }

    /// Suspends the guest, which goes on as another domain, or where it was.
    pub(crate) fn suspend(&self, becomes: Becomes) -> Suspended {
        self.machine.toolstack().expect_suspend(&self.guest, becomes);
        dispatch(|at| self.suspend.suspend(at, &self.guest, &Alone(&self.guest))).expect("Xen suspends it")
    }

    /// A page, shared with the control domain for writing.
    pub(crate) fn share<const N: usize>(&self, cache: &mut GrantCache<Platform, N>) -> Shared<Platform> {
        self.try_share(cache, Rights::Write).expect("there is a reference")
    }

    /// The same, if there is a reference.
    pub(crate) fn try_share<const N: usize>(
        &self,
        cache: &mut GrantCache<Platform, N>,
        rights: Rights,
    ) -> Option<Shared<Platform>> {
        let page = Ram::allocate(&self.platform).expect("there is RAM");
        let shared = dispatch(|at| Shared::new(cache, at, DOM0, page, rights));
        shared.inspect_err(|refused| assert_eq!(refused.error, ShareError::Full)).ok()
    }

    pub(crate) fn dom0(&self) -> Dom0 {
        self.machine.dom0()
    }

    /// The control domain maps a page for writing.
    pub(crate) fn map(&self, reference: GrantRef) -> Mapping {
        self.dom0().map(&self.guest, reference, Access::Write).expect("it is granted")
    }

    /// All is given back, and nothing was done wrong.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        assert_eq!(dispatch(|at| self.grants.close(at)), Ok(()));
        let audit = self.machine.audit(&self.guest);
        assert!(audit.is_clean(), "{audit}");
        self.machine.check().expect("Xen's books agree");
    }
}

/// The eight bytes at the beginning of a page.
pub(crate) fn word(page: &GuestFrame) -> u64 {
    page.load(Place::new(0))
}
