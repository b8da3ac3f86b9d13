//! Guests that do something wrong with hypercalls, and a backend that does.

use xen_abi::{
    DomId, GrantRef, cpuid,
    domid::DOMID_SELF,
    grant_table::{
        op::{
            GNTMAP_HOST_MAP, GNTMAP_READONLY, GNTTABOP_MAP_GRANT_REF, GNTTABOP_QUERY_SIZE,
            GNTTABOP_UNMAP_GRANT_REF, GrantHandle, MapGrantRef, QuerySize, UnmapGrantRef,
        },
        status::GrantError,
    },
    hypercall::{GRANT_TABLE_OP, VCPU_OP},
    memory::XENMAPSPACE_SHARED_INFO,
    seam::{Access as _, Gfn, Processor as _},
    vcpu::{RegisterVcpuInfo, VCPUOP_REGISTER_VCPU_INFO},
};
use xen_sim::{Access, Arena, Untouchable};

use crate::kernel::{ARGUMENTS, Kernel, LENGTH, grant, revoke};

const REF: GrantRef = GrantRef(9);

/// Maps a page of another guest's.
pub(crate) fn map(
    kernel: &Kernel,
    granter: &Kernel,
    reference: GrantRef,
    at: Gfn,
    access: Access,
) -> Result<GrantHandle, GrantError> {
    let readonly = if access == Access::Read { GNTMAP_READONLY } else { 0 };
    let mut op = MapGrantRef {
        host_addr: at.0 << 12,
        flags: GNTMAP_HOST_MAP | readonly,
        r#ref: reference,
        dom: DomId(granter.guest.domain()),
        ..Default::default()
    };
    assert_eq!(kernel.grant_op(GNTTABOP_MAP_GRANT_REF, &mut op), Ok(0));
    GrantError::check(op.status).map(|()| op.handle)
}

/// Unmaps it.
pub(crate) fn unmap(kernel: &Kernel, handle: GrantHandle, at: Gfn) -> Result<(), GrantError> {
    let mut op = UnmapGrantRef { host_addr: at.0 << 12, handle, ..Default::default() };
    assert_eq!(kernel.grant_op(GNTTABOP_UNMAP_GRANT_REF, &mut op), Ok(0));
    GrantError::check(op.status)
}

pub(crate) fn bad_pointer(kernel: &Kernel, wrong: bool) {
    let mut arena = Arena::new(ARGUMENTS, LENGTH);
    arena.put(ARGUMENTS, &QuerySize { dom: DOMID_SELF, ..Default::default() }).expect("it fits");
    let end = ARGUMENTS + LENGTH as u64;
    let address = if wrong { end - 1 } else { ARGUMENTS };
    kernel.guest.call_in(&mut arena, GRANT_TABLE_OP, [GNTTABOP_QUERY_SIZE, address, 1, 0, 0]);
}

pub(crate) fn call_refused(kernel: &Kernel, wrong: bool) {
    let hole = kernel.hole();
    let placed = kernel.place(XENMAPSPACE_SHARED_INFO, wrong.into(), hole.gfn());
    assert_eq!(placed.is_ok(), !wrong);
    if !wrong {
        assert_eq!(kernel.remove(hole.gfn()), Ok(0));
    }
    kernel.free(hole);
}

pub(crate) fn crash(kernel: &Kernel, wrong: bool) {
    let other = kernel.beside();
    let (table, page, hole) = (other.table(), other.page(), kernel.hole());
    grant(&table, REF, kernel.guest.domain(), page.gfn(), 0);
    let handle = map(kernel, &other, REF, hole.gfn(), Access::Write).expect("it is granted");
    if wrong {
        let over = map(kernel, &other, REF, hole.gfn(), Access::Write);
        assert_eq!(over, Err(GrantError::GENERAL_ERROR));
    }
    unmap(kernel, handle, hole.gfn()).expect("it is mapped");
    kernel.free(hole);
}

pub(crate) fn backend_stale(kernel: &Kernel, wrong: bool) {
    let dom0 = kernel.machine.dom0();
    let (table, page) = (kernel.table(), kernel.page());
    grant(&table, REF, 0, page.gfn(), 0);
    let mapping = dom0.map(&kernel.guest, REF, Access::Write).expect("it is granted");
    dom0.unmap(mapping).expect("it is mapped");
    if wrong {
        assert_eq!(dom0.write(mapping, 0, &[1]), Err(Untouchable::NotMapped(mapping)));
    }
    revoke(&table, REF).expect("nobody uses it");
    kernel.free(page);
    kernel.end(table);
}

/// Xen writes to a `vcpu_info` for ever: there is no call that ends it.
pub(crate) fn freed_pinned(kernel: &Kernel, wrong: bool) {
    let page = kernel.page();
    let place = RegisterVcpuInfo { mfn: page.gfn().0, offset: 0, rsvd: 0 };
    let mut arena = Arena::new(ARGUMENTS, LENGTH);
    if wrong {
        arena.put(ARGUMENTS, &place).expect("it fits");
        let arguments = [VCPUOP_REGISTER_VCPU_INFO, 0, ARGUMENTS, 0, 0];
        assert_eq!(kernel.guest.call_in(&mut arena, VCPU_OP, arguments), 0);
    }
    kernel.free(page);
}

/// The register that takes the hypercall page has no second page.
pub(crate) fn exception(kernel: &Kernel, wrong: bool) {
    let page = kernel.page();
    let [_, register, ..] = kernel.guest.cpuid(cpuid::FIRST_LEAF + cpuid::HYPERCALL_PAGE);
    write_msr(kernel, register, page.gfn().0 * 4096 + u64::from(wrong));
    kernel.free(page);
}

#[expect(unsafe_code, reason = "registers are written")]
fn write_msr(kernel: &Kernel, register: u32, value: u64) {
    // SAFETY: what the simulation makes of the value stays in the guest's own pages.
    unsafe { kernel.guest.write_msr(register, value) };
}
