//! Putting pages of Xen's and of the guest's somewhere, and taking them out.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno,
    memory::{
        AddToPhysmap, AddToPhysmapBatch, RemoveFromPhysmap, XENMAPSPACE_DEV_MMIO, XENMAPSPACE_GMFN,
        XENMAPSPACE_GMFN_FOREIGN, XENMAPSPACE_GMFN_RANGE, XENMAPSPACE_GRANT_TABLE, XENMAPSPACE_SHARED_INFO,
    },
    seam::Gfn,
};

use crate::{
    hypervisor::{
        DOM0, Hypervisor,
        call::{Answer, Call, Refusal},
        domain::Domain,
    },
    linear::BadAddress,
    ram::{Backing, Event, Moment, Physmap, XenPage},
    rule::rules,
};

rules! {
    /// A page of another domain's can be put somewhere with `XENMEM_add_to_physmap_batch` only.
    SPACE_FOREIGN: "xen/include/public/memory.h", "XENMAPSPACE_gmfn_foreign";
    /// A range of pages can be moved with `XENMEM_add_to_physmap` only.
    SPACE_RANGE: "xen/include/public/memory.h", "XENMAPSPACE_gmfn_range";
    /// Pages of devices are the hardware domain's.
    SPACE_DEVICE: "xen/common/memory.c", "xatp_permission_check";
    /// What is to be put somewhere is a page of a space that there is: the shared info page, which is number 0, or a page of the
    /// grant table below its limit.
    SPACE_PAGE: "xen/arch/x86/mm/p2m.c", "xenmem_add_to_physmap_one";
    /// What is moved is the guest's own, and is there.
    SPACE_OWN: "xen/arch/x86/mm/p2m.c", "xenmem_add_to_physmap_one";
    /// A place has a number that page tables can reach.
    PLACE_REACHED: "xen/arch/x86/mm/p2m-ept.c", "ept_set_entry";
    /// A place at which a page of another domain's is mapped cannot be used for something else.
    PLACE_FOREIGN: "xen/common/memory.c", "guest_remove_page";
    /// A range that goes beyond the last number is none.
    RANGE_OVERFLOW: "xen/common/memory.c", "xenmem_add_to_physmap";
    /// A range does not go on after its end.
    RANGE_END: "xen/common/memory.c", "xenmem_add_to_physmap, xenmem_add_to_physmap_batch";
    /// Where a range goes on has 16 bits, as its size.
    RANGE_START: "xen/common/memory.c", "do_memory_op";
    /// A guest can map another domain's page only by a grant.
    FOREIGN_PERMISSION: "xen/arch/x86/mm/p2m.c", "p2m_add_foreign";
    /// Nothing can be taken from where nothing is.
    NOTHING_THERE: "xen/common/memory.c", "do_memory_op, XENMEM_remove_from_physmap";
}

/// The frame that is none.
const INVALID_GFN: u64 = !0;

impl Hypervisor {
    /// `XENMEM_add_to_physmap`
    pub(super) fn add_to_physmap(&mut self, call: &mut Call<'_>, argument: u64, start: u64) -> Answer {
        let start = u16::try_from(start).map_err(|_| RANGE_START.refuses(Errno::EDOM))?;
        let op: AddToPhysmap = call.memory.get(argument)?;
        if op.space == XENMAPSPACE_GMFN_FOREIGN {
            return Err(SPACE_FOREIGN.refuses(Errno::ENOSYS));
        }
        let moment = self.moment(call);
        let domain = self.itself_of(call, op.domid)?;
        if op.space == XENMAPSPACE_DEV_MMIO {
            return Err(SPACE_DEVICE.refuses(Errno::EACCES));
        }
        if op.gpfn == INVALID_GFN {
            return Err(PLACE_REACHED.refuses(Errno::EINVAL));
        }
        if op.space != XENMAPSPACE_GMFN_RANGE {
            return domain.place(op.space, op.idx, Gfn(op.gpfn), moment).map(|()| 0);
        }
        domain.move_range(&op, start, moment)
    }

    /// `XENMEM_add_to_physmap_batch`
    pub(super) fn add_batch_to_physmap(&mut self, call: &mut Call<'_>, argument: u64, start: u64) -> Answer {
        let start = u16::try_from(start).map_err(|_| RANGE_START.refuses(Errno::EDOM))?;
        let op: AddToPhysmapBatch = call.memory.get(argument)?;
        let space = u32::from(op.space);
        if space == XENMAPSPACE_GMFN_RANGE {
            return Err(SPACE_RANGE.refuses(Errno::EOPNOTSUPP));
        }
        self.itself_of(call, op.domid)?;
        if space == XENMAPSPACE_DEV_MMIO {
            return Err(SPACE_DEVICE.refuses(Errno::EACCES));
        }
        if op.size < start || op.size == start && start != 0 {
            return Err(RANGE_END.refuses(Errno::EILSEQ));
        }
        for index in start..op.size {
            let idx: u64 = call.memory.get(element(op.idxs, index, 8)?)?;
            let gpfn: u64 = call.memory.get(element(op.gpfns, index, 8)?)?;
            if gpfn == INVALID_GFN {
                return Err(PLACE_REACHED.refuses(Errno::EINVAL));
            }
            let placed = if space == XENMAPSPACE_GMFN_FOREIGN {
                Err(self.refuse_foreign(call, op.u.0))
            } else {
                let moment = self.moment(call);
                self.itself_of(call, op.domid)?.place(space, idx, Gfn(gpfn), moment)
            };
            let error = placed.map_or_else(|refusal| -i32::from(refusal.error.number()), |()| 0);
            call.memory.put(element(op.errs, index, 4)?, &error)?;
        }
        Ok(0)
    }

    /// Why a guest cannot map a page of another domain's without a grant.
    fn refuse_foreign(&self, call: &Call<'_>, foreign: u16) -> Refusal {
        let is_domain = foreign == DOM0 || foreign == call.from.domain || self.domains.contains_key(&foreign);
        FOREIGN_PERMISSION.refuses(if is_domain { Errno::EPERM } else { Errno::ESRCH })
    }

    /// `XENMEM_remove_from_physmap`
    pub(super) fn remove_from_physmap(&mut self, call: &mut Call<'_>, argument: u64) -> Answer {
        let op: RemoveFromPhysmap = call.memory.get(argument)?;
        let moment = self.moment(call);
        let domain = self.itself_of(call, op.domid)?;
        let gfn = Gfn(op.gpfn);
        match domain.ram.physmap.take(gfn) {
            None => return Err(NOTHING_THERE.refuses(Errno::ENOENT)),
            Some(Backing::Ram(page)) => domain.judge_loss(gfn, &page, moment),
            Some(Backing::Xen(_) | Backing::Foreign(_)) => {}
        }
        domain.ram.books.note(gfn, Event::Emptied, moment);
        Ok(0)
    }
}

/// The address of an element of an array.
fn element(array: u64, index: u16, size: u64) -> Result<u64, BadAddress> {
    array.checked_add(u64::from(index) * size).ok_or(BadAddress(array))
}

impl Domain {
    /// Puts a page of a space somewhere.
    fn place(&mut self, space: u32, idx: u64, gfn: Gfn, moment: Moment) -> Result<(), Refusal> {
        let (backing, event) = match space {
            XENMAPSPACE_SHARED_INFO if idx == 0 => {
                (Backing::Xen(XenPage::SharedInfo), Event::Placed(XenPage::SharedInfo))
            }
            XENMAPSPACE_GRANT_TABLE => {
                let page = XenPage::GrantTable(self.grant_frame(idx)?);
                (Backing::Xen(page), Event::Placed(page))
            }
            XENMAPSPACE_GMFN => match self.ram.physmap.get(Gfn(idx)) {
                Some(Backing::Foreign(_)) | None => return Err(SPACE_OWN.refuses(Errno::EACCES)),
                Some(own) => (own.clone(), Event::MovedFrom(Gfn(idx))),
            },
            _ => return Err(SPACE_PAGE.refuses(Errno::EINVAL)),
        };
        if !Physmap::reaches(gfn) {
            return Err(PLACE_REACHED.refuses(Errno::EINVAL));
        }
        let old = match &backing {
            Backing::Xen(page) => self.ram.physmap.place_of(*page),
            _ => Some(Gfn(idx)),
        };
        if old == Some(gfn) {
            return Ok(());
        }
        self.vacate(gfn, moment)?;
        if let Some(old) = old {
            if let Some(Backing::Ram(page)) = self.ram.physmap.take(old) {
                self.judge_loss(old, &page, moment);
            }
            self.ram.books.note(old, Event::Emptied, moment);
        }
        self.ram.physmap.put(gfn, backing);
        self.ram.books.note(gfn, event, moment);
        Ok(())
    }

    /// Makes room for something else: RAM that is there is given to Xen, not lost.
    fn vacate(&mut self, gfn: Gfn, moment: Moment) -> Result<(), Refusal> {
        match self.ram.physmap.get(gfn) {
            Some(Backing::Foreign(_)) => Err(PLACE_FOREIGN.refuses(Errno::ENXIO)),
            Some(Backing::Ram(page)) => {
                let page = page.clone();
                self.judge_loss(gfn, &page, moment);
                self.ram.surrender();
                self.ram.books.note(gfn, Event::Surrendered, moment);
                Ok(())
            }
            Some(Backing::Xen(_)) | None => Ok(()),
        }
    }

    /// The page of the grant table of this number, to which the table grows if it may.
    fn grant_frame(&mut self, idx: u64) -> Result<u32, Refusal> {
        #[expect(clippy::cast_possible_truncation, reason = "Xen takes 32 bits, whatever is above")]
        let frame = idx as u32;
        if frame >= self.grants.most_frames {
            return Err(SPACE_PAGE.refuses(Errno::EINVAL));
        }
        self.grow_grants(frame + 1);
        Ok(frame)
    }

    /// Moves a range of pages, backwards if it would otherwise overwrite itself.
    fn move_range(&mut self, op: &AddToPhysmap, start: u16, moment: Moment) -> Answer {
        if op.size < start {
            return Err(RANGE_END.refuses(Errno::EILSEQ));
        }
        let size = u64::from(op.size);
        let overflow = RANGE_OVERFLOW.refuses(Errno::EOVERFLOW);
        op.gpfn.checked_add(size).ok_or(overflow)?;
        let end = op.idx.checked_add(size).ok_or(overflow)?;
        let backwards = op.gpfn > op.idx && op.gpfn < end;
        for done in u64::from(start)..size {
            let index = if backwards { size - 1 - done } else { done };
            self.place(XENMAPSPACE_GMFN, op.idx + index, Gfn(op.gpfn + index), moment)?;
        }
        Ok(0)
    }
}
