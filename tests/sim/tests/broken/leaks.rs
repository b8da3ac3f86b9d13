//! Guests that leave something behind.

use std::sync::atomic::Ordering::Relaxed;

use xen_abi::{
    DomId, GrantRef,
    domid::DOMID_SELF,
    event_channel::{AllocUnbound, Close, EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_CLOSE},
    hypercall::EVENT_CHANNEL_OP,
    memory::XENMAPSPACE_SHARED_INFO,
    seam::Access as _,
};
use xen_sim::{Access, Arena};

use crate::{
    kernel::{ARGUMENTS, Kernel, LENGTH, grant, revoke},
    others::{map, unmap},
};

const REF: GrantRef = GrantRef(9);

pub(crate) fn page_left(kernel: &Kernel, wrong: bool) {
    let page = kernel.page();
    if !wrong {
        kernel.free(page);
    }
}

pub(crate) fn hole_backed(kernel: &Kernel, wrong: bool) {
    let hole = kernel.hole();
    assert_eq!(kernel.place(XENMAPSPACE_SHARED_INFO, 0, hole.gfn()), Ok(0));
    if !wrong {
        assert_eq!(kernel.remove(hole.gfn()), Ok(0));
        kernel.free(hole);
    }
}

pub(crate) fn grant_left(kernel: &Kernel, wrong: bool) {
    let (table, page) = (kernel.table(), kernel.page());
    grant(&table, REF, 0, page.gfn(), 0);
    if !wrong {
        revoke(&table, REF).expect("nobody uses it");
        kernel.free(page);
    }
    kernel.end(table);
}

pub(crate) fn port_left(kernel: &Kernel, wrong: bool) {
    let mut arena = Arena::new(ARGUMENTS, LENGTH);
    let mut new = AllocUnbound { dom: DOMID_SELF, remote_dom: DomId(0), ..AllocUnbound::default() };
    kernel.call(EVENT_CHANNEL_OP, EVTCHNOP_ALLOC_UNBOUND, 0, &mut new, &mut arena).expect("there is a port");
    if !wrong {
        let mut close = Close { port: new.port };
        kernel.call(EVENT_CHANNEL_OP, EVTCHNOP_CLOSE, 0, &mut close, &mut arena).expect("it is open");
    }
}

pub(crate) fn mapping_left(kernel: &Kernel, wrong: bool) {
    let other = kernel.beside();
    let (table, page, hole) = (other.table(), other.page(), kernel.hole());
    grant(&table, REF, kernel.guest.domain(), page.gfn(), 0);
    let handle = map(kernel, &other, REF, hole.gfn(), Access::Write).expect("it is granted");
    if !wrong {
        unmap(kernel, handle, hole.gfn()).expect("it is mapped");
        kernel.free(hole);
    }
}

pub(crate) fn backend_left(kernel: &Kernel, wrong: bool) {
    let dom0 = kernel.machine.dom0();
    let (table, page) = (kernel.table(), kernel.page());
    grant(&table, REF, 0, page.gfn(), 0);
    let mapping = dom0.map(&kernel.guest, REF, Access::Write).expect("it is granted");
    // What the store's daemon has mapped, it may keep.
    dom0.map(&kernel.guest, GrantRef(1), Access::Write).expect("the toolstack has granted it");
    if !wrong {
        dom0.unmap(mapping).expect("it is mapped");
    }
    if revoke(&table, REF).is_ok() {
        kernel.free(page);
    }
    kernel.end(table);
}

pub(crate) fn task_left(kernel: &Kernel, wrong: bool) {
    kernel.run.tasks.store(wrong.into(), Relaxed);
}

pub(crate) fn timer_left(kernel: &Kernel, wrong: bool) {
    kernel.run.timers.store(wrong.into(), Relaxed);
}

pub(crate) fn nothing_tested(kernel: &Kernel, wrong: bool) {
    kernel.run.boundaries.store((!wrong).into(), Relaxed);
}
