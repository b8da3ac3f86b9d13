//! `HYPERVISOR_hvm_op`. All of these are callable at any level.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno, Hypervisor,
    domid::DOMID_SELF,
    hvm::op::{EvtchnUpcallVector, Param},
};

use super::command;

/// Reads a parameter of this domain's.
///
/// # Errors
///
/// What Xen answered.
pub fn get_param<H: Hypervisor>(hypervisor: &H, index: u32) -> Result<u64, Errno> {
    let mut param = Param { domid: DOMID_SELF, index, ..Param::default() };
    command::GET_PARAM.call(hypervisor, &mut param)?;
    Ok(param.value)
}

/// Sets a parameter of this domain's.
///
/// # Errors
///
/// What Xen answered.
pub fn set_param<H: Hypervisor>(hypervisor: &H, index: u32, value: u64) -> Result<(), Errno> {
    let mut param = Param { domid: DOMID_SELF, index, value, ..Param::default() };
    command::SET_PARAM.call(hypervisor, &mut param).map(drop)
}

/// Lets a virtual CPU's upcalls come by an interrupt vector of its own, for good: the domain's callback interrupt is
/// none of its any more.
///
/// # Errors
///
/// What Xen answered: `EINVAL` for a vector below 16; `ENOENT`, if there is no such CPU; `ENOSYS` and `EOPNOTSUPP`,
/// if it cannot do that.
pub fn set_evtchn_upcall_vector<H: Hypervisor>(hypervisor: &H, vcpu: u32, vector: u8) -> Result<(), Errno> {
    let mut argument = EvtchnUpcallVector { vcpu, vector, ..EvtchnUpcallVector::default() };
    command::SET_EVTCHN_UPCALL_VECTOR.call(hypervisor, &mut argument).map(drop)
}
