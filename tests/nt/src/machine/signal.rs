//! The processor's exceptions, as Linux tells them: signals.
//!
//! The handler decides nothing. It moves the interrupted registers into the running context and returns to the
//! host instead of to the driver, as a hypervisor's exit does. What it means is found out there, in ordinary code.
#![expect(unsafe_code, reason = "a signal handler rewrites the interrupted context")]

use std::{
    mem,
    ptr::{self, NonNull},
    sync::atomic::Ordering::Relaxed,
};

use libc::{REG_CR2, REG_EFL, REG_ERR, REG_RIP, REG_RSP, REG_TRAPNO, c_int, c_void, siginfo_t, ucontext_t};

use super::{
    context::{Extended, FLAGS, Interruption, Registers},
    trampoline::{self, Exit, GATE},
};

/// Those by which the kernel tells of an exception.
const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGTRAP, libc::SIGFPE];

/// Room for the kernel's frame with every register of AVX-512 and AMX in it, and for the handler.
const STACK: usize = 64 * 1024;

/// The handler, installed for as long as this lives.
#[derive(Debug)]
pub(super) struct Signals {
    /// What was there before.
    actions: Vec<libc::sigaction>,
    stack: libc::stack_t,
    _memory: Box<[u8]>,
}

impl Signals {
    /// Installs the handler. The alternate stack is the calling thread's.
    pub(super) fn install() -> Self {
        let mut memory = vec![0; STACK].into_boxed_slice();
        let ours = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK };
        let stack = set_stack(&ours);
        // SAFETY: all zeroes is an action: the default one.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_signal;
        action.sa_sigaction = handler as usize;
        // Not SA_NODEFER: an exception in the handler itself ends the process at once.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let actions = SIGNALS.iter().map(|&signal| set_action(signal, &action)).collect();
        Self { actions, stack, _memory: memory }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (&signal, action) in SIGNALS.iter().zip(&self.actions) {
            set_action(signal, action);
        }
        set_stack(&self.stack);
    }
}

fn set_action(signal: c_int, action: &libc::sigaction) -> libc::sigaction {
    // SAFETY: all zeroes is an action.
    let mut before = unsafe { mem::zeroed() };
    // SAFETY: both are valid, and the handler, if it is ours, touches nothing but the gate's context.
    let failed = unsafe { libc::sigaction(signal, action, &raw mut before) };
    assert_eq!(failed, 0, "no handler for signal {signal}: {}", std::io::Error::last_os_error());
    before
}

fn set_stack(stack: &libc::stack_t) -> libc::stack_t {
    let mut before = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: the memory of ours lives until what was there before is back.
    let failed = unsafe { libc::sigaltstack(stack, &raw mut before) };
    assert_eq!(failed, 0, "no alternate signal stack: {}", std::io::Error::last_os_error());
    before
}

extern "C" fn on_signal(signal: c_int, _info: *mut siginfo_t, interrupted: *mut c_void) {
    let Some(context) = NonNull::new(GATE.context.load(Relaxed)).filter(|_| is_our_thread()) else {
        // A fault of the host's own. Returning runs into it again, and then the default action is taken.
        // SAFETY: the default action of a signal.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    // SAFETY: the third argument of a SA_SIGINFO handler is a `ucontext_t`, ours until we return.
    let machine = unsafe { &mut *interrupted.cast::<ucontext_t>() };
    let machine = &mut machine.uc_mcontext;
    // SAFETY: the context is lent to `enter`, which has not returned.
    let context = unsafe { &mut *context.as_ptr() };
    context.registers = registers(&machine.gregs);
    // SAFETY: on x86-64 every signal frame has the state of `fxsave64`, at the head of what else there is.
    context.extended = unsafe { machine.fpregs.cast::<Extended>().read_unaligned() };
    context.interruption = Interruption {
        vector: get(&machine.gregs, REG_TRAPNO) as u8,
        error: get(&machine.gregs, REG_ERR),
        address: get(&machine.gregs, REG_CR2),
    };
    let mut set = |register, value: u64| machine.gregs[index(register)] = value.cast_signed();
    set(REG_RSP, GATE.host_stack.load(Relaxed));
    set(REG_RIP, trampoline::leave());
    set(REG_EFL, FLAGS);
    set(libc::REG_R10, Exit::Interrupted as u64);
}

/// Whether this is the thread that runs driver code: any thread may be interrupted.
fn is_our_thread() -> bool {
    current_thread() == GATE.thread.load(Relaxed)
}

/// The thread's number.
pub(super) fn current_thread() -> i32 {
    // SAFETY: always succeeds.
    unsafe { libc::gettid() }
}

fn get(from: &[i64; 23], register: c_int) -> u64 {
    from[index(register)].cast_unsigned()
}

fn index(register: c_int) -> usize {
    usize::try_from(register).expect("the header counts registers from 0")
}

fn registers(from: &[i64; 23]) -> Registers {
    let get = |register| get(from, register);
    Registers {
        rax: get(libc::REG_RAX),
        rcx: get(libc::REG_RCX),
        rdx: get(libc::REG_RDX),
        rbx: get(libc::REG_RBX),
        rbp: get(libc::REG_RBP),
        rsi: get(libc::REG_RSI),
        rdi: get(libc::REG_RDI),
        r8: get(libc::REG_R8),
        r9: get(libc::REG_R9),
        r10: get(libc::REG_R10),
        r11: get(libc::REG_R11),
        r12: get(libc::REG_R12),
        r13: get(libc::REG_R13),
        r14: get(libc::REG_R14),
        r15: get(libc::REG_R15),
        rflags: get(REG_EFL),
        rsp: get(REG_RSP),
        rip: get(REG_RIP),
    }
}
