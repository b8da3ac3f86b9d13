//! `xen.h`, section "VIRTUAL INTERRUPTS": what [`BindVirq::virq`](super::BindVirq::virq) can be.
//!
//! One that is a vCPU's own is bound once for each, and stays there. One that is global is bound once in all, to vCPU
//! 0, and can be moved. Most of the global ones are the control domain's.
#![forbid(unsafe_code)]

/// A vCPU's own: a timer.
pub const VIRQ_TIMER: u32 = 0;
/// A vCPU's own: show what there is for debugging.
pub const VIRQ_DEBUG: u32 = 1;
/// Global, the control domain's: bytes came in on the emergency console.
pub const VIRQ_CONSOLE: u32 = 2;
/// Global, the control domain's: something about a domain.
pub const VIRQ_DOM_EXC: u32 = 3;
/// Global, the control domain's: there are trace records.
pub const VIRQ_TBUF: u32 = 4;
/// Global, the control domain's: a domain stopped for its debugger.
pub const VIRQ_DEBUGGER: u32 = 6;
/// A vCPU's own: there is a sample of the profiler.
pub const VIRQ_XENOPROF: u32 = 7;
/// Global, the control domain's: bytes came in on the console.
pub const VIRQ_CON_RING: u32 = 8;
/// Global, the control domain's: a processor came or went.
pub const VIRQ_PCPU_STATE: u32 = 9;
/// Global, the control domain's: something about a domain's memory.
pub const VIRQ_MEM_EVENT: u32 = 10;
/// Global: an Argo message.
pub const VIRQ_ARGO: u32 = 11;
/// Global, the control domain's: memory runs low.
pub const VIRQ_ENOMEM: u32 = 12;
/// A vCPU's own: a performance counter.
pub const VIRQ_XENPMU: u32 = 13;
/// On x86 a machine check, the control domain's.
pub const VIRQ_ARCH_0: u32 = 16;
/// Not in use on x86.
pub const VIRQ_ARCH_1: u32 = 17;
/// Not in use on x86.
pub const VIRQ_ARCH_2: u32 = 18;
/// Not in use on x86.
pub const VIRQ_ARCH_3: u32 = 19;
/// Not in use on x86.
pub const VIRQ_ARCH_4: u32 = 20;
/// Not in use on x86.
pub const VIRQ_ARCH_5: u32 = 21;
/// Not in use on x86.
pub const VIRQ_ARCH_6: u32 = 22;
/// Not in use on x86.
pub const VIRQ_ARCH_7: u32 = 23;

/// All are below this.
pub const NR_VIRQS: u32 = 24;
