//! `HVM_OP`: a domain's parameters, and how its upcalls come.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use xen_abi::{
    Errno,
    hvm::{
        op::{
            EvtchnUpcallVector, GetTime, HVMOP_FLUSH_TLBS, HVMOP_GET_PARAM, HVMOP_GET_TIME,
            HVMOP_PAGETABLE_DYING, HVMOP_SET_EVTCHN_UPCALL_VECTOR, HVMOP_SET_PARAM, PagetableDying, Param,
        },
        params::{
            HVM_NR_PARAMS, HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_ALTP2M, HVM_PARAM_CALLBACK_IRQ,
            HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN,
            HVM_PARAM_VM_GENERATION_ID_ADDR, HVM_PARAM_VM86_TSS, HVM_PARAM_VM86_TSS_SIZED,
            HVM_PARAM_X87_FIP_WIDTH,
        },
    },
    sched::SHUTDOWN_CRASH,
};

use super::{
    DOM0, Hypervisor,
    call::{Answer, Call, Refusal},
    vcpu::VCPU_NUMBER,
};
use crate::rule::rules;

rules! {
    /// A command that this Xen does not have is answered with `ENOSYS`.
    HVM_COMMAND: "xen/arch/x86/hvm/hvm.c", "do_hvm_op";
    /// Vectors below 16 are the processor's own: `EINVAL`.
    UPCALL_VECTOR: "xen/arch/x86/hvm/hvm.c", "hvmop_set_evtchn_upcall_vector";
    /// Parameters have numbers below 39: `EINVAL` beyond.
    PARAM_NUMBER: "xen/include/public/hvm/params.h", "HVM_NR_PARAMS";
    /// The control domain has no parameters: `EINVAL`.
    PARAM_OF_PV: "xen/arch/x86/hvm/hvm.c", "hvmop_set_param";
    /// A guest has to do with its own parameters only: `EPERM` for another's.
    PARAM_OF_OTHER: "xen/arch/x86/hvm/hvm.c", "hvm_allow_set_param";
    /// Parameters that are no longer in use are answered with `EINVAL`.
    PARAM_DEPRECATED: "xen/arch/x86/hvm/hvm.c", "hvm_allow_set_param";
    /// A guest may read this parameter and not set it: `EEXIST`.
    PARAM_READ_ONLY: "xen/arch/x86/hvm/hvm.c", "hvm_allow_set_param";
    /// A guest may set few parameters: `EPERM` for the others.
    PARAM_SET: "xen/arch/x86/hvm/hvm.c", "hvm_allow_set_param";
    /// A guest may read few parameters: `EPERM` for the others.
    PARAM_GET: "xen/arch/x86/hvm/hvm.c", "hvm_allow_get_param";
    /// A parameter has values that it cannot have: `EINVAL`; a guest that gives a bad TSS is crashed besides.
    PARAM_VALUE: "xen/arch/x86/hvm/hvm.c", "hvm_set_param";
    /// TLBs are flushed without an argument: `EINVAL` with one.
    FLUSH_ARGUMENT: "xen/include/public/hvm/hvm_op.h", "HVMOP_flush_tlbs";
    /// One's own page tables die, not another's: `EOPNOTSUPP`.
    PAGETABLE_OF_OTHER: "xen/arch/x86/hvm/hvm.c", "HVMOP_pagetable_dying";
    /// With hardware-assisted paging nobody needs to hear of dying page tables: `EINVAL`.
    PAGETABLE_SHADOW: "xen/arch/x86/hvm/hvm.c", "HVMOP_pagetable_dying";
}

/// A domain's parameters, which begin as zero.
pub(crate) type Parameters = BTreeMap<u32, u64>;

/// Numbers that the header does not name any more but for Xen itself.
const DEPRECATED: [u32; 10] = [4, 13, 20, 21, 22, 23, 24, 25, 26, 30];

/// The smallest and the largest task state segment: bare, and with the bitmaps of interrupts and of all ports.
const TSS: u64 = 104;
const LARGEST_TSS: u64 = TSS + 0x100 / 8 + 0x1_0000 / 8 + 1;
/// What old firmware had.
const OLD_TSS: u64 = 128;

impl Hypervisor {
    /// `HVM_OP`
    pub(super) fn hvm_op(&mut self, call: &mut Call<'_>) -> Answer {
        let (from, argument) = (call.from.domain, call.arguments[1]);
        match call.arguments[0] {
            HVMOP_SET_EVTCHN_UPCALL_VECTOR => {
                let EvtchnUpcallVector { vcpu, vector, .. } = call.memory.get(argument)?;
                if vector < 0x10 {
                    return Err(UPCALL_VECTOR.refuses(Errno::EINVAL));
                }
                let domain = self.domain(from)?;
                if !domain.vcpus.contains_key(&vcpu) {
                    return Err(VCPU_NUMBER.refuses(Errno::ENOENT));
                }
                domain.set_upcall_vector(vcpu, vector);
            }
            HVMOP_SET_PARAM => {
                let param: Param = call.memory.get(argument)?;
                self.check_param(from, &param)?;
                self.set_param(from, param.index, param.value)?;
            }
            HVMOP_GET_PARAM => {
                let mut param: Param = call.memory.get(argument)?;
                self.check_param(from, &param)?;
                param.value = self.get_param(from, param.index)?;
                call.memory.put(argument, &param)?;
            }
            HVMOP_FLUSH_TLBS if argument == 0 => {}
            HVMOP_FLUSH_TLBS => return Err(FLUSH_ARGUMENT.refuses(Errno::EINVAL)),
            HVMOP_PAGETABLE_DYING => {
                let PagetableDying { domid, .. } = call.memory.get(argument)?;
                let of = self.resolve(from, domid.0)?;
                return Err(if of == from {
                    PAGETABLE_SHADOW.refuses(Errno::EINVAL)
                } else {
                    PAGETABLE_OF_OTHER.refuses(Errno::EOPNOTSUPP)
                });
            }
            HVMOP_GET_TIME => {
                call.memory.put(argument, &GetTime { now: self.system_time(from) })?;
            }
            _ => return Err(HVM_COMMAND.refuses(Errno::ENOSYS)),
        }
        Ok(0)
    }

    /// What a parameter cannot be, whatever is done with it.
    fn check_param(&self, from: u16, param: &Param) -> Result<(), Refusal> {
        if param.index >= HVM_NR_PARAMS {
            return Err(PARAM_NUMBER.refuses(Errno::EINVAL));
        }
        match self.resolve(from, param.domid.0)? {
            DOM0 => Err(PARAM_OF_PV.refuses(Errno::EINVAL)),
            of if of != from => Err(PARAM_OF_OTHER.refuses(Errno::EPERM)),
            _ if DEPRECATED.contains(&param.index) => Err(PARAM_DEPRECATED.refuses(Errno::EINVAL)),
            _ => Ok(()),
        }
    }

    fn set_param(&mut self, from: u16, index: u32, value: u64) -> Result<(), Refusal> {
        let (mut index, mut value) = (index, value);
        let domain = self.domain(from)?;
        let old = domain.parameters.get(&index).copied().unwrap_or_default();
        let bad = Err(PARAM_VALUE.refuses(Errno::EINVAL));
        match index {
            HVM_PARAM_CALLBACK_IRQ => domain.set_callback(value),
            HVM_PARAM_X87_FIP_WIDTH if ![0, 4, 8].contains(&value) => return bad,
            HVM_PARAM_ACPI_IOPORTS_LOCATION if value != old && value ^ old != 1 => return bad,
            HVM_PARAM_VM_GENERATION_ID_ADDR
            | HVM_PARAM_STORE_EVTCHN
            | HVM_PARAM_CONSOLE_EVTCHN
            | HVM_PARAM_X87_FIP_WIDTH
            | HVM_PARAM_ACPI_IOPORTS_LOCATION => {}
            HVM_PARAM_VM86_TSS if value > u32::MAX.into() => {
                self.shut_down(from, SHUTDOWN_CRASH);
                return bad;
            }
            HVM_PARAM_VM86_TSS => {
                index = HVM_PARAM_VM86_TSS_SIZED;
                value |= if value == 0 { 0 } else { OLD_TSS << 32 };
            }
            HVM_PARAM_VM86_TSS_SIZED if value >> 32 < TSS => {
                self.shut_down(from, SHUTDOWN_CRASH);
                return bad;
            }
            HVM_PARAM_VM86_TSS_SIZED => {
                value = value & u64::from(u32::MAX) | (value >> 32).min(LARGEST_TSS) << 32;
            }
            HVM_PARAM_ALTP2M => return Err(PARAM_READ_ONLY.refuses(Errno::EEXIST)),
            _ => return Err(PARAM_SET.refuses(Errno::EPERM)),
        }
        self.domain(from)?.parameters.insert(index, value);
        Ok(())
    }

    fn get_param(&mut self, from: u16, index: u32) -> Result<u64, Refusal> {
        let parameters = &self.domain(from)?.parameters;
        let value = |index| parameters.get(&index).copied().unwrap_or_default();
        match index {
            HVM_PARAM_CALLBACK_IRQ
            | HVM_PARAM_VM86_TSS_SIZED
            | HVM_PARAM_ACPI_IOPORTS_LOCATION
            | HVM_PARAM_VM_GENERATION_ID_ADDR
            | HVM_PARAM_STORE_PFN
            | HVM_PARAM_STORE_EVTCHN
            | HVM_PARAM_CONSOLE_PFN
            | HVM_PARAM_CONSOLE_EVTCHN
            | HVM_PARAM_ALTP2M
            | HVM_PARAM_X87_FIP_WIDTH => Ok(value(index)),
            HVM_PARAM_VM86_TSS => Ok(value(HVM_PARAM_VM86_TSS_SIZED) & u64::from(u32::MAX)),
            _ => Err(PARAM_GET.refuses(Errno::EPERM)),
        }
    }
}
