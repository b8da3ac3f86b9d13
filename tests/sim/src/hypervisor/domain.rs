//! A guest, as Xen has it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use xen_abi::{
    DomId, GrantRef,
    grant_table::{GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE, GTF_PERMIT_ACCESS, GrantEntryV1},
    seam::Gfn,
    version::DomainHandle,
};

use super::{
    DOM0,
    event::{Abi, Events},
    grant::Table,
    hvm::Parameters,
    interrupt::Interrupts,
    processor::Cpu,
    sched::Ending,
    shared::Area,
    time::Clock,
    vcpu::Vcpu,
};
use crate::{
    guest::GuestConfig,
    ram::{Moment, Ram},
};

/// Where the toolstack puts the ring of the store, and that of the console (`special_pfn` in `tools/libs/guest/xg_dom_x86.c`).
pub(crate) const STORE_RING: Gfn = Gfn(0xF_EFFC);
/// See [`STORE_RING`].
pub(crate) const CONSOLE_RING: Gfn = Gfn(0xF_EFFF);

/// A guest.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) ram: Ram,
    pub(crate) grants: Table,
    /// By id, which need not be the processor's number in the guest, and need not follow one another.
    pub(crate) vcpus: BTreeMap<u32, Vcpu>,
    /// What they see of their processor.
    pub(crate) cpu: Cpu,
    pub(crate) events: Events,
    pub(crate) interrupts: Interrupts,
    pub(crate) parameters: Parameters,
    pub(crate) ending: Ending,
    pub(crate) clock: Clock,
    pub(crate) handle: DomainHandle,
}

impl Domain {
    /// A domain with nothing in it yet but its memory: an empty one, or that of a guest that was saved; and the rings of the store and of the
    /// console, which the toolstack grants to the control domain (`xc_dom_gnttab_init` in `tools/libs/guest/xg_dom_boot.c`).
    ///
    /// Of what a guest had arranged with Xen nothing is saved: its channels and their ABI, its grants, the places of its `vcpu_info`s, its vectors,
    /// callback and parameters, and the bytes of its shared info page are gone. It has virtual CPU 0 in any case.
    pub(crate) fn new(config: &GuestConfig, mut ram: Ram, moment: Moment) -> Self {
        ram.forget_xen(moment);
        let vcpus = config.vcpus.iter().copied().chain([0]);
        let mut domain = Self {
            ram,
            grants: Table::new(config.grant_frames, config.mappings),
            vcpus: vcpus.map(|id| (id, Vcpu::new(moment.at))).collect(),
            cpu: config.cpu,
            events: Events::new(config.max_evtchn_port, config.fifo),
            interrupts: Interrupts::default(),
            parameters: Parameters::new(),
            ending: Ending::default(),
            clock: config.clock,
            handle: [0; 16],
        };
        domain.grow_grants(1);
        let rings = [(GNTTAB_RESERVED_CONSOLE, CONSOLE_RING), (GNTTAB_RESERVED_XENSTORE, STORE_RING)];
        for (reference, gfn) in rings {
            domain.build_ring(reference, gfn, moment);
        }
        domain
    }

    fn build_ring(&mut self, reference: GrantRef, gfn: Gfn, moment: Moment) {
        self.ram.build(gfn, moment);
        let frame = u32::try_from(gfn.0).expect("the toolstack puts them below 4 GiB");
        self.seed_grant(reference, GrantEntryV1 { flags: GTF_PERMIT_ACCESS, domid: DomId(DOM0), frame });
    }

    /// The guest's pages that Xen writes to, as the guest has asked for, and what they are. It can have those of the
    /// FIFO ABI back by a reset, and those of `vcpu_info`s not at all.
    pub(crate) fn registered(&self) -> impl Iterator<Item = (Gfn, &'static str)> {
        let infos = self.vcpu_infos().map(|gfn| (gfn, "a vcpu_info"));
        let fifo = match &self.events.abi {
            Abi::Fifo(fifo) => Some(fifo.pages()),
            Abi::TwoLevel => None,
        };
        infos.chain(fifo.into_iter().flatten())
    }

    /// The guest's pages with `vcpu_info`s.
    pub(crate) fn vcpu_infos(&self) -> impl Iterator<Item = Gfn> {
        self.vcpus.values().filter_map(|vcpu| match vcpu.registered?.area {
            Area::Guest(gfn) => Some(gfn),
            Area::SharedInfo => None,
        })
    }
}
