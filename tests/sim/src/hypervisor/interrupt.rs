//! Upcalls, as interrupts of the processor.
//!
//! ```text
//!                       vCPU has a vector of its own      ─▶ its local APIC: an edge, delivered once
//! upcall_pending 0 ─▶ 1 the domain's callback is a vector ─▶ each vCPU, again and again while it is pending
//!                       the callback is a line, and vCPU 0 ─▶ a level, asserted while it is pending
//! ```
//!
//! A virtual CPU takes no interrupt while it handles one: [`Hypervisor::take_interrupt`] to
//! [`Hypervisor::end_of_interrupt`].
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use xen_abi::hvm::params::CallbackVia;

use super::{Hypervisor, VcpuId, domain::Domain, vcpu::Vcpu};
use crate::{guest::Interrupt, rule::rules};

rules! {
    /// A vector of a virtual CPU's own is an edge: it comes once for each time that an upcall becomes pending.
    UPCALL_EDGE: "xen/arch/x86/hvm/irq.c", "hvm_assert_evtchn_irq";
    /// The callback's line is a level: it is asserted as long as an upcall of vCPU 0 is pending.
    CALLBACK_LEVEL: "xen/arch/x86/hvm/irq.c", "hvm_set_callback_irq_level";
    /// The callback's vector is not acknowledged: it comes as long as an upcall is pending.
    CALLBACK_VECTOR: "xen/arch/x86/hvm/irq.c", "hvm_vcpu_has_pending_irq";
    /// There are 48 lines, and none of number zero: a callback beyond is none.
    CALLBACK_LINE: "xen/arch/x86/hvm/irq.c", "hvm_set_callback_via";
}

/// The first of the lines that PCI devices share, how many these are, and all lines.
const PCI_LINES: u32 = 16;
const PCI_SHARED: u32 = 32;
const LINES: u32 = PCI_LINES + PCI_SHARED;

/// How a domain's upcalls come (`HVM_PARAM_CALLBACK_IRQ`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Via {
    #[default]
    Nothing,
    Line(u32),
    Vector(u8),
}

impl Via {
    fn new(param: u64) -> Self {
        match CallbackVia::from_param(param) {
            Some(CallbackVia::Gsi(gsi)) if u32::from(gsi) < LINES => Self::Line(gsi.into()),
            Some(CallbackVia::PciIntx { devfn, intx, .. }) => {
                let device = u32::from(devfn >> 3);
                Self::Line(PCI_LINES + (device * 4 + device / 8 + u32::from(intx)) % PCI_SHARED)
            }
            Some(CallbackVia::Vector(vector)) => Self::Vector(vector),
            Some(CallbackVia::Gsi(_) | CallbackVia::None) | None => Self::Nothing,
        }
    }
}

/// A domain's interrupts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupts {
    via: Via,
    /// Xen has seen an upcall of vCPU 0 pending, and not seen it gone.
    asserted: bool,
    /// Virtual CPUs that may have an interrupt.
    awaited: BTreeSet<u32>,
}

impl Domain {
    /// `hvm_assert_evtchn_irq`: an upcall has become due, or may have.
    pub(super) fn assert_upcall(&mut self, id: u32) {
        self.interrupts.awaited.insert(id);
        let pending = self.is_upcall_pending(id);
        let Some(vcpu) = self.vcpus.get_mut(&id) else { return };
        if vcpu.upcall_vector != 0 {
            vcpu.requested.insert(vcpu.upcall_vector);
        } else if !matches!(self.interrupts.via, Via::Vector(_)) && id == 0 {
            self.interrupts.asserted = pending;
        }
    }

    /// `HVMOP_set_evtchn_upcall_vector`. The vector comes once in any case.
    pub(super) fn set_upcall_vector(&mut self, id: u32, vector: u8) {
        if let Some(vcpu) = self.vcpus.get_mut(&id) {
            vcpu.upcall_vector = vector;
        }
        self.assert_upcall(id);
    }

    /// `HVM_PARAM_CALLBACK_IRQ`. All virtual CPUs' upcalls are asserted anew.
    pub(super) fn set_callback(&mut self, param: u64) {
        self.interrupts.via = Via::new(param);
        let up = self.vcpus.iter().filter(|(_, vcpu)| vcpu.is_up());
        for id in up.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.assert_upcall(id);
        }
    }

    fn is_upcall_pending(&self, id: u32) -> bool {
        let pending = self.info(id).and_then(|info| self.ram.load(info.upcall_pending()));
        pending.is_some_and(|pending| pending != 0)
    }

    /// What a virtual CPU would take next, were it to take one.
    pub(super) fn due(&self, id: u32) -> Option<Interrupt> {
        let vcpu = self.vcpus.get(&id)?;
        let pending = || self.is_upcall_pending(id);
        match self.interrupts.via {
            Via::Vector(vector) if pending() => Some(Interrupt::Vector(vector)),
            Via::Line(line) if id == 0 && self.interrupts.asserted && pending() => {
                Some(Interrupt::Line(line))
            }
            _ => vcpu.requested.last().map(|vector| Interrupt::Vector(*vector)),
        }
    }

    /// Whether it takes one.
    fn takes(&self, id: u32) -> bool {
        let ready = |vcpu: &Vcpu| vcpu.is_up() && !vcpu.in_service;
        !self.ending.shut_down && self.vcpus.get(&id).is_some_and(ready)
    }

    fn take(&mut self, id: u32) -> Option<Interrupt> {
        if !self.takes(id) {
            return None;
        }
        let due = self.due(id);
        if let Some(due) = due
            && let Some(vcpu) = self.vcpus.get_mut(&id)
        {
            vcpu.in_service = true;
            if let Interrupt::Vector(vector) = due {
                vcpu.requested.remove(&vector);
            }
        }
        if self.due(id).is_none() {
            self.interrupts.awaited.remove(&id);
        }
        due
    }
}

impl Hypervisor {
    /// The virtual CPUs to which an interrupt is on its way.
    pub(crate) fn interrupts(&self) -> impl Iterator<Item = VcpuId> {
        self.domains.iter().flat_map(|(id, domain)| {
            let awaited = domain.interrupts.awaited.iter().copied();
            let taken = awaited.filter(|vcpu| domain.takes(*vcpu) && domain.due(*vcpu).is_some());
            taken.map(|vcpu| VcpuId { domain: *id, vcpu })
        })
    }

    /// Lets an interrupt arrive that is on its way.
    pub(crate) fn take_interrupt(&mut self, to: VcpuId) -> Option<Interrupt> {
        let taken = self.domains.get_mut(&to.domain)?.take(to.vcpu);
        if taken.is_some() {
            self.run(to);
        }
        taken
    }

    /// The guest has handled the interrupt that it took.
    pub(crate) fn end_of_interrupt(&mut self, of: VcpuId) {
        if let Some(vcpu) = self.domains.get_mut(&of.domain).and_then(|domain| domain.vcpus.get_mut(&of.vcpu))
        {
            vcpu.in_service = false;
        }
    }
}
