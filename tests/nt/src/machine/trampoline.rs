//! The only way in and the only ways out: the switch between the host and driver code, and the routines that
//! driver code calls without leaving.
//!
//! ```text
//!            enter(context)                      loads every register from the context
//!   host ──────────────────────▶ driver code ──┐
//!    ▲                                          │ 1 calls an import        `export`       eax = its index
//!    └──────────────── `leave` ◀────────────────┤ 2 returns from a call    `returned`
//!      what happened: an [`Exit`]               │ 3 traps or faults        signal handler
//! ```
//!
//! No host frame is ever on a driver stack: what is suspended there is a [`Context`], and nothing else. So an
//! activation can be dropped at any point, and all 24 KiB of a kernel stack are the driver's.
#![expect(unsafe_code, reason = "jumps into and out of foreign code")]

use std::{
    arch::global_asm,
    mem::offset_of,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicU64},
};

use super::context::{Context, FLAGS};

/// How driver code gave the processor back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Exit {
    /// It called an import. `eax` is the index, `rsp` points to the return address, and the four registers'
    /// arguments have been spilled to the home space above it.
    Export,
    /// The function that was called has returned.
    Returned,
    /// An exception.
    Interrupted,
}

/// What the way in leaves for the ways out. There is one, as there is one machine.
#[repr(C)]
pub(super) struct Gate {
    /// What is running, null while the host is.
    pub(super) context: AtomicPtr<Context>,
    /// The host's stack pointer.
    pub(super) host_stack: AtomicU64,
    /// Where `enter` jumps once no register is left to hold it.
    target: AtomicU64,
    /// The thread that has claimed the machine.
    pub(super) thread: AtomicI32,
}

pub(super) static GATE: Gate = Gate {
    context: AtomicPtr::new(std::ptr::null_mut()),
    host_stack: AtomicU64::new(0),
    target: AtomicU64::new(0),
    thread: AtomicI32::new(0),
};

unsafe extern "sysv64" {
    fn nt_sim_enter(context: *mut Context) -> Exit;
}

unsafe extern "C" {
    safe static nt_sim_export: u8;
    safe static nt_sim_returned: u8;
    safe static nt_sim_leave: u8;
    safe static nt_sim_natives: u8;
    safe static nt_sim_memmove: u8;
    safe static nt_sim_memset: u8;
    safe static nt_sim_memcmp: u8;
    safe static nt_sim_chkstk: u8;
    safe static nt_sim_natives_end: u8;
}

/// Runs driver code until it leaves.
///
/// # Safety
///
/// The machine is claimed by this thread and its signal handler installed; the context's `rip` and `rsp` are a place in
/// an image and a stack of its own.
pub(super) unsafe fn enter(context: &mut Context) -> Exit {
    // SAFETY: passed on to the caller. The context is borrowed until the code has left.
    unsafe { nt_sim_enter(context) }
}

// The calling convention of the driver's side is Microsoft's: "x64 calling convention" (Microsoft Learn).
//
// The caller of any function owns 32 bytes of home space above the return address. Spilling the four registers there
// makes all arguments one array, a fifth one and those of a variadic function included.
//
// Between the first pop and the jump in `enter`, and while driver code runs, `rsp` is not the host's. A signal that
// comes from outside must be handled on the alternate stack.
global_asm!(
    ".pushsection .text.nt_sim_gate, \"ax\", @progbits",
    ".balign 16",
    ".globl nt_sim_enter",
    "nt_sim_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 8",
    "stmxcsr [rsp]",
    "fnstcw [rsp + 4]",
    "mov [rip + {gate} + {host_stack}], rsp",
    "mov [rip + {gate} + {running}], rdi",
    "mov rax, [rdi + {rip}]",
    "mov [rip + {gate} + {target}], rax",
    "fxrstor64 [rdi + {extended}]",
    "mov rsp, rdi",
    "pop rax",
    "pop rcx",
    "pop rdx",
    "pop rbx",
    "pop rbp",
    "pop rsi",
    "pop rdi",
    "pop r8",
    "pop r9",
    "pop r10",
    "pop r11",
    "pop r12",
    "pop r13",
    "pop r14",
    "pop r15",
    "popfq",
    "pop rsp",
    "jmp [rip + {gate} + {target}]",
    ".balign 16",
    ".globl nt_sim_export",
    "nt_sim_export:",
    "mov [rsp + 8], rcx",
    "mov [rsp + 16], rdx",
    "mov [rsp + 24], r8",
    "mov [rsp + 32], r9",
    "mov r10d, {export}",
    "jmp 2f",
    ".globl nt_sim_returned",
    "nt_sim_returned:",
    "mov r10d, {returned}",
    "2:",
    "mov r11, [rip + {gate} + {running}]",
    "mov [r11 + {rsp}], rsp",
    "lea rsp, [r11 + {rsp}]",
    "pushfq",
    "push r15",
    "push r14",
    "push r13",
    "push r12",
    "push 0", // r11, which is volatile and not the driver's any more
    "push 0", // r10
    "push r9",
    "push r8",
    "push rdi",
    "push rsi",
    "push rbp",
    "push rbx",
    "push rdx",
    "push rcx",
    "push rax",
    "fxsave64 [r11 + {extended}]",
    "mov rsp, [rip + {gate} + {host_stack}]",
    ".globl nt_sim_leave",
    "nt_sim_leave:", // rsp is the host's, r10d what happened
    "mov qword ptr [rip + {gate} + {running}], 0",
    "push {flags}",
    "popfq",
    "fninit",
    "fldcw [rsp + 4]",
    "ldmxcsr [rsp]",
    "add rsp, 8",
    "mov eax, r10d",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".popsection",
    gate = sym GATE,
    running = const offset_of!(Gate, context),
    host_stack = const offset_of!(Gate, host_stack),
    target = const offset_of!(Gate, target),
    extended = const offset_of!(Context, extended),
    rsp = const offset_of!(Context, registers.rsp),
    rip = const offset_of!(Context, registers.rip),
    export = const Exit::Export as u32,
    returned = const Exit::Returned as u32,
    flags = const FLAGS,
);

/// A routine that driver code runs without leaving: what a compiler calls of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// `memcpy`, which is `memmove` here.
    Memcpy,
    /// `memmove`.
    Memmove,
    /// `memset`.
    Memset,
    /// `memcmp`.
    Memcmp,
    /// `__chkstk`: touches each page of the `rax` bytes below the caller's frame.
    Chkstk,
}

/// Where a native routine's return address lies, seen from its `rsp`: each begins with `sub rsp, 16`.
pub(super) const NATIVE_FRAME: u64 = 16;

impl Native {
    /// The routine of that name.
    #[must_use]
    pub fn named(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "memcpy" => Self::Memcpy,
            "memmove" => Self::Memmove,
            "memset" => Self::Memset,
            "memcmp" => Self::Memcmp,
            "__chkstk" => Self::Chkstk,
            _ => return None,
        })
    }

    pub(super) fn address(self) -> u64 {
        address(match self {
            Self::Memcpy | Self::Memmove => &nt_sim_memmove,
            Self::Memset => &nt_sim_memset,
            Self::Memcmp => &nt_sim_memcmp,
            Self::Chkstk => &nt_sim_chkstk,
        })
    }
}

/// Whether the instruction there is one of a native routine.
pub(super) fn is_native(rip: u64) -> bool {
    (address(&nt_sim_natives)..address(&nt_sim_natives_end)).contains(&rip)
}

/// Where the thunk of an import jumps, with the import's index in `eax`.
pub(super) fn export() -> u64 {
    address(&nt_sim_export)
}

/// The return address of each call into driver code.
pub(super) fn returned() -> u64 {
    address(&nt_sim_returned)
}

/// Where an interrupted context leaves, on the host's stack with an [`Exit`] in `r10d`.
pub(super) fn leave() -> u64 {
    address(&nt_sim_leave)
}

fn address(label: &'static u8) -> u64 {
    std::ptr::from_ref(label).addr() as u64
}

// Each keeps the registers that its caller may rely on: `rsi` and `rdi` are nonvolatile on this side, and `__chkstk`
// changes none but the flags.
global_asm!(
    ".pushsection .text.nt_sim_gate, \"ax\", @progbits",
    ".balign 16",
    ".globl nt_sim_natives",
    "nt_sim_natives:",
    ".globl nt_sim_memmove",
    "nt_sim_memmove:", // rcx to, rdx from, r8 length
    "sub rsp, 16",
    "mov [rsp], rdi",
    "mov [rsp + 8], rsi",
    "cld",
    "mov rax, rcx",
    "mov rdi, rcx",
    "mov rsi, rdx",
    "sub rcx, rdx",
    "cmp rcx, r8",
    "mov rcx, r8",
    "jae 2f",
    // The end of the source would be overwritten before it is read: from the end, then.
    "lea rdi, [rdi + rcx - 1]",
    "lea rsi, [rsi + rcx - 1]",
    "std",
    "2:",
    "rep movsb",
    "cld",
    "jmp 4f",
    ".globl nt_sim_memset",
    "nt_sim_memset:", // rcx to, dl byte, r8 length
    "sub rsp, 16",
    "mov [rsp], rdi",
    "mov [rsp + 8], rsi",
    "cld",
    "mov rdi, rcx",
    "mov r9, rcx",
    "mov eax, edx",
    "mov rcx, r8",
    "rep stosb",
    "mov rax, r9",
    "jmp 4f",
    ".globl nt_sim_memcmp",
    "nt_sim_memcmp:", // rcx one, rdx other, r8 length
    "sub rsp, 16",
    "mov [rsp], rdi",
    "mov [rsp + 8], rsi",
    "cld",
    "mov rsi, rcx",
    "mov rdi, rdx",
    "mov rcx, r8",
    "xor eax, eax",
    "repe cmpsb", // nothing to compare leaves the flags of the `xor`: equal
    "je 4f",
    "sbb eax, eax",
    "or eax, 1",
    "4:",
    "mov rdi, [rsp]",
    "mov rsi, [rsp + 8]",
    "add rsp, 16",
    "ret",
    ".globl nt_sim_chkstk",
    "nt_sim_chkstk:", // rax bytes below what rsp was before the call
    "sub rsp, 16",
    "mov [rsp], r10",
    "mov [rsp + 8], r11",
    "lea r10, [rsp + 24]",
    "mov r11, r10",
    "sub r11, rax",
    "5:",
    "sub r10, 4096",
    "cmp r10, r11",
    "jbe 6f",
    "test byte ptr [r10], 0",
    "jmp 5b",
    "6:",
    "test byte ptr [r11], 0",
    "mov r10, [rsp]",
    "mov r11, [rsp + 8]",
    "add rsp, 16",
    "ret",
    ".globl nt_sim_natives_end",
    "nt_sim_natives_end:",
    ".popsection",
);
