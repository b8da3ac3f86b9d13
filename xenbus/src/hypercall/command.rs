//! The commands of hypercalls, and what each takes.
#![expect(unsafe_code, reason = "hypercalls, whose arguments must be right")]

use core::{marker::PhantomData, ptr};

use xen_abi::{
    Errno, Hypervisor,
    event_channel::{self as evtchn, fifo},
    grant_table::op as grant,
    hvm::op as hvm,
    hypercall::{EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, MEMORY_OP, SCHED_OP, VCPU_OP, XEN_VERSION},
    memory, sched, vcpu,
    version::XENVER_VERSION,
};
use zerocopy::{FromBytes, IntoBytes};

/// A command that takes the address of a `T` and touches no other memory; of nothing, if `T` is `()`.
pub(crate) struct Command<T>(Call<T>);

/// A command that takes the address of a `T`, and changes what is at some guest-physical address, or who may use it.
pub(crate) struct MemoryCommand<T>(Call<T>);

struct Call<T> {
    hypercall: u32,
    command: u64,
    what: PhantomData<fn(&mut T)>,
}

// SAFETY: each of these commands takes a structure of that type by its address, reads and writes it, and no other
// memory.
pub(crate) const VERSION: Command<()> = unsafe { Command::new(XEN_VERSION, XENVER_VERSION) };
// SAFETY: as above.
pub(crate) const ALLOC_UNBOUND: Command<evtchn::AllocUnbound> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_ALLOC_UNBOUND) };
// SAFETY: as above.
pub(crate) const BIND_INTERDOMAIN: Command<evtchn::BindInterdomain> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_BIND_INTERDOMAIN) };
// SAFETY: as above.
pub(crate) const BIND_VIRQ: Command<evtchn::BindVirq> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_BIND_VIRQ) };
// SAFETY: as above.
pub(crate) const BIND_IPI: Command<evtchn::BindIpi> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_BIND_IPI) };
// SAFETY: as above.
pub(crate) const BIND_VCPU: Command<evtchn::BindVcpu> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_BIND_VCPU) };
// SAFETY: as above.
pub(crate) const CLOSE: Command<evtchn::Close> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_CLOSE) };
// SAFETY: as above.
pub(crate) const SEND: Command<evtchn::Send> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_SEND) };
// SAFETY: as above.
pub(crate) const STATUS: Command<evtchn::Status> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_STATUS) };
// SAFETY: as above.
pub(crate) const UNMASK: Command<evtchn::Unmask> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_UNMASK) };
// SAFETY: as above.
pub(crate) const RESET: Command<evtchn::Reset> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_RESET) };
// SAFETY: as above.
pub(crate) const SET_PRIORITY: Command<fifo::SetPriority> =
    unsafe { Command::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_SET_PRIORITY) };
// SAFETY: as above.
pub(crate) const QUERY_SIZE: Command<grant::QuerySize> =
    unsafe { Command::new(GRANT_TABLE_OP, grant::GNTTABOP_QUERY_SIZE) };
// SAFETY: as above.
pub(crate) const GET_PARAM: Command<hvm::Param> = unsafe { Command::new(HVM_OP, hvm::HVMOP_GET_PARAM) };
// SAFETY: as above.
pub(crate) const SET_PARAM: Command<hvm::Param> = unsafe { Command::new(HVM_OP, hvm::HVMOP_SET_PARAM) };
// SAFETY: as above.
pub(crate) const SET_EVTCHN_UPCALL_VECTOR: Command<hvm::EvtchnUpcallVector> =
    unsafe { Command::new(HVM_OP, hvm::HVMOP_SET_EVTCHN_UPCALL_VECTOR) };
// SAFETY: as above.
pub(crate) const SHUTDOWN: Command<sched::Shutdown> =
    unsafe { Command::new(SCHED_OP, sched::SCHEDOP_SHUTDOWN) };
// SAFETY: as above.
pub(crate) const SHUTDOWN_CODE: Command<sched::Shutdown> =
    unsafe { Command::new(SCHED_OP, sched::SCHEDOP_SHUTDOWN_CODE) };

// What these change is what their callers answer for.
pub(crate) const INIT_CONTROL: MemoryCommand<fifo::InitControl> =
    MemoryCommand::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_INIT_CONTROL);
pub(crate) const EXPAND_ARRAY: MemoryCommand<fifo::ExpandArray> =
    MemoryCommand::new(EVENT_CHANNEL_OP, evtchn::EVTCHNOP_EXPAND_ARRAY);
pub(crate) const MAP_GRANT_REF: MemoryCommand<grant::MapGrantRef> =
    MemoryCommand::new(GRANT_TABLE_OP, grant::GNTTABOP_MAP_GRANT_REF);
pub(crate) const UNMAP_GRANT_REF: MemoryCommand<grant::UnmapGrantRef> =
    MemoryCommand::new(GRANT_TABLE_OP, grant::GNTTABOP_UNMAP_GRANT_REF);
pub(crate) const ADD_TO_PHYSMAP: MemoryCommand<memory::AddToPhysmap> =
    MemoryCommand::new(MEMORY_OP, memory::XENMEM_ADD_TO_PHYSMAP);
pub(crate) const REMOVE_FROM_PHYSMAP: MemoryCommand<memory::RemoveFromPhysmap> =
    MemoryCommand::new(MEMORY_OP, memory::XENMEM_REMOVE_FROM_PHYSMAP);
pub(crate) const REGISTER_VCPU_INFO: MemoryCommand<vcpu::RegisterVcpuInfo> =
    MemoryCommand::new(VCPU_OP, vcpu::VCPUOP_REGISTER_VCPU_INFO);

impl<T: FromBytes + IntoBytes> Command<T> {
    /// # Safety
    ///
    /// The command takes the address of a `T`, reads and writes no other memory, and has no effect on memory that
    /// anybody has.
    const unsafe fn new(hypercall: u32, command: u64) -> Self {
        Self(Call { hypercall, command, what: PhantomData })
    }

    /// Makes the call. Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered.
    pub(crate) fn call<H: Hypervisor>(&self, hypervisor: &H, argument: &mut T) -> Result<u64, Errno> {
        // SAFETY: it touches nothing but its argument.
        unsafe { self.0.call(hypervisor, 0, argument) }
    }
}

impl<T: FromBytes + IntoBytes> MemoryCommand<T> {
    const fn new(hypercall: u32, command: u64) -> Self {
        Self(Call { hypercall, command, what: PhantomData })
    }

    /// Makes the call. Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered.
    ///
    /// # Safety
    ///
    /// What the command does to the memory that its argument names is what the caller may do with it.
    pub(crate) unsafe fn call<H: Hypervisor>(&self, hypervisor: &H, argument: &mut T) -> Result<u64, Errno> {
        // SAFETY: the caller answers for what else it touches than its argument.
        unsafe { self.0.call(hypervisor, 0, argument) }
    }

    /// Makes the call for a virtual CPU: the second argument of `HYPERVISOR_vcpu_op`. Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered.
    ///
    /// # Safety
    ///
    /// As for [`call`](Self::call).
    pub(crate) unsafe fn call_for<H: Hypervisor>(
        &self,
        hypervisor: &H,
        vcpu: u32,
        argument: &mut T,
    ) -> Result<u64, Errno> {
        // SAFETY: the caller answers for what else it touches than its argument.
        unsafe { self.0.call(hypervisor, vcpu, argument) }
    }
}

impl<T: FromBytes + IntoBytes> Call<T> {
    /// # Safety
    ///
    /// The command takes the address of a `T`, and what it does to other memory is what the caller may do.
    unsafe fn call<H: Hypervisor>(&self, hypervisor: &H, vcpu: u32, argument: &mut T) -> Result<u64, Errno> {
        let address =
            if size_of::<T>() == 0 { 0 } else { ptr::from_mut(argument).expose_provenance() as u64 };
        let arguments = match self.hypercall {
            // One structure, where an array of some may be.
            GRANT_TABLE_OP => [self.command, address, 1, 0, 0],
            VCPU_OP => [self.command, u64::from(vcpu), address, 0, 0],
            _ => [self.command, address, 0, 0, 0],
        };
        // SAFETY: the structure is there during the call, and any bytes are one; the caller answers for the rest.
        Errno::check(unsafe { hypervisor.hypercall(self.hypercall, arguments) })
    }
}
