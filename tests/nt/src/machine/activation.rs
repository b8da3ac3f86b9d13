//! A call into driver code, on a stack of its own, that stops wherever someone outside must act.
#![expect(unsafe_code, reason = "enters driver code")]

use std::ops::Range;

use iced_x86::Instruction;

use super::{
    context::{Context, Interruption, Registers},
    image::Site,
    stack::{self, KernelStack},
    trampoline::{self, Exit, NATIVE_FRAME},
    trap::{BREAKPOINT, Fault, FaultKind, GENERAL_PROTECTION, Trap},
    unwind::{self, UnwindError},
};

/// How an activation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// From the beginning.
    Start,
    /// The import that it called returns.
    Return(u64),
    /// The import that it called calls back, on the same stack. [`Yield::Returned`] ends that.
    Call {
        /// The function.
        function: u64,
        /// Its arguments.
        arguments: [u64; 4],
    },
    /// Past a trap.
    Continue,
}

/// Where an activation has stopped.
#[derive(Debug)]
pub enum Yield {
    /// It calls an import: answer with [`Resume::Return`] or [`Resume::Call`].
    Export {
        /// What the import is bound to.
        index: u32,
        /// The call's arguments.
        arguments: Arguments,
    },
    /// A [`Resume::Call`] has returned this. The import that made it has still to return.
    Returned(u64),
    /// An instruction that it cannot execute itself: [`Resume::Continue`].
    Trap(Trap),
    /// Its function has returned this.
    Finished(u64),
    /// It made a mistake, and will not run again.
    Fault(Fault),
}

/// One call into driver code: a thread, a DPC, an interrupt's service routine.
///
/// It can be dropped at any time, wherever it has stopped. Nothing of the driver's is undone by that.
#[derive(Debug)]
pub struct Activation {
    /// The call itself, and those that imports have made from within it: the innermost last, and the one that runs.
    calls: Vec<Call>,
    state: State,
    stack: KernelStack,
}

#[derive(Debug)]
struct Call {
    context: Context,
    /// `rsp` when it has returned.
    top: u64,
    function: u64,
}

/// What a `Resume` must fit.
#[derive(Debug)]
enum State {
    New,
    Export,
    Trap(Pending),
    Over,
}

/// A trap that has not been continued.
#[derive(Debug)]
struct Pending {
    trap: Trap,
    instruction: Instruction,
    next: u64,
    is_answered: bool,
}

impl Activation {
    /// A call that has yet to [start](Resume::Start).
    ///
    /// # Panics
    ///
    /// Never: an empty stack has room for one call.
    #[must_use]
    pub fn new(stack: KernelStack, function: u64, arguments: [u64; 4]) -> Self {
        let first = Call::new(&stack, stack.range().end, function, arguments).expect("the stack is empty");
        Self { calls: vec![first], state: State::New, stack }
    }

    /// Runs the driver's code until it next stops, with GS at that base.
    ///
    /// # Panics
    ///
    /// `with` does not answer where the activation stopped last.
    pub fn resume(&mut self, with: Resume, gs: u64) -> Yield {
        match (with, &self.state) {
            (Resume::Start, State::New) => {}
            (Resume::Return(value), State::Export) => self.innermost_mut().return_from_export(value),
            (Resume::Call { function, arguments }, State::Export) => {
                let Some(call) = Call::new(&self.stack, self.registers().rsp, function, arguments) else {
                    return self.fail(FaultKind::StackOverflow, function, self.registers().rsp);
                };
                self.calls.push(call);
            }
            (Resume::Continue, State::Trap(pending)) => {
                pending.check();
                self.innermost_mut().context.registers.rip = pending.next;
            }
            (with, state) => panic!("{with:?} is no answer to {state:?}"),
        }
        self.state = State::Over;
        match self.enter(gs) {
            Exit::Export => self.export(),
            Exit::Returned => self.returned(),
            Exit::Interrupted => self.interrupted(),
        }
    }

    /// The registers of the code that has stopped.
    #[must_use]
    pub fn registers(&self) -> &Registers {
        &self.innermost().context.registers
    }

    /// As [`registers`](Self::registers). At a trap, what is set here is what the driver finds.
    pub fn registers_mut(&mut self) -> &mut Registers {
        &mut self.innermost_mut().context.registers
    }

    /// Puts a value where the instruction of the trap leaves it: the register named by the instruction for CR8, RDX
    /// and RAX for 64 bits, else RAX.
    ///
    /// # Panics
    ///
    /// The activation has not stopped at a trap that reads one value.
    pub fn answer(&mut self, value: u64) {
        let State::Trap(pending) = &mut self.state else { panic!("there is no trap to answer") };
        let Some(Call { context, .. }) = self.calls.last_mut() else { unreachable!("there is a call") };
        pending.trap.answer(value, &pending.instruction, &mut context.registers);
        pending.is_answered = true;
    }

    /// Answers CPUID: EAX, EBX, ECX and EDX.
    ///
    /// # Panics
    ///
    /// The activation has not stopped there.
    pub fn answer_cpuid(&mut self, [eax, ebx, ecx, edx]: [u32; 4]) {
        match &mut self.state {
            State::Trap(Pending { trap: Trap::Cpuid { .. }, is_answered, .. }) => *is_answered = true,
            state => panic!("there is no CPUID to answer in {state:?}"),
        }
        let registers = self.registers_mut();
        registers.rax = eax.into();
        registers.rbx = ebx.into();
        registers.rcx = ecx.into();
        registers.rdx = edx.into();
    }

    /// Unwinds the innermost call through .pdata, as the kernel would: the return addresses, the innermost first.
    ///
    /// # Errors
    ///
    /// The kernel could not.
    ///
    /// # Panics
    ///
    /// The activation has not stopped at an import.
    pub fn frames(&self) -> Result<Vec<u64>, UnwindError> {
        assert!(matches!(self.state, State::Export), "only the call of an import can be unwound");
        let Call { context, top, .. } = self.innermost();
        unwind::frames(&self.stack.machine().images(), context.registers, *top)
    }

    /// Where its stack is.
    #[must_use]
    pub fn stack(&self) -> Range<u64> {
        self.stack.range()
    }

    /// Gives the stack back, whatever is on it.
    #[must_use]
    pub fn into_stack(self) -> KernelStack {
        self.stack
    }

    fn enter(&mut self, gs: u64) -> Exit {
        let base = self.stack.machine().gs_base();
        let host = base.get();
        base.set(gs);
        // SAFETY: the stack, on which `rsp` is, holds the machine's claim, which this thread has made and which
        // has the handler installed. What the driver's code does is the business of whoever loaded it.
        let exit = unsafe { trampoline::enter(&mut self.innermost_mut().context) };
        base.set(host);
        exit
    }

    fn export(&mut self) -> Yield {
        let Registers { rsp, rax, .. } = *self.registers();
        let Some(caller) = stack::read(rsp).filter(|_| self.stack.range().contains(&rsp)) else {
            return self.fail(FaultKind::StrayStack, self.innermost().function, rsp);
        };
        if !(rsp + 8).is_multiple_of(16) {
            return self.fail(FaultKind::Misaligned, caller, rsp);
        }
        self.state = State::Export;
        Yield::Export { index: rax as u32, arguments: Arguments { rsp } }
    }

    fn returned(&mut self) -> Yield {
        let call = self.innermost();
        if let Some(register) = call.context.clobbered(call.top) {
            return self.fail(FaultKind::Clobbered(register), call.function, call.context.registers.rsp);
        }
        let value = call.context.registers.rax;
        if self.calls.len() == 1 {
            return Yield::Finished(value);
        }
        self.calls.pop();
        self.state = State::Export;
        Yield::Returned(value)
    }

    fn interrupted(&mut self) -> Yield {
        let Context { registers, interruption, .. } = &self.innermost().context;
        match self.trap(registers, *interruption) {
            Some(pending) => {
                let trap = pending.trap.clone();
                self.state = State::Trap(pending);
                Yield::Trap(trap)
            }
            None => Yield::Fault(self.fault(registers, *interruption)),
        }
    }

    /// What the instruction asks for, if it is one that traps.
    fn trap(&self, registers: &Registers, interruption: Interruption) -> Option<Pending> {
        let at = match interruption.vector {
            GENERAL_PROTECTION => registers.rip,
            // A trap in the processor's sense: the instruction has been executed.
            BREAKPOINT => registers.rip - 1,
            _ => return None,
        };
        let Site { instruction, out_of_line } =
            self.stack.machine().images().iter().find_map(|image| image.site(at))?;
        let trap = match out_of_line {
            Some(_) => Trap::Atomic,
            None => Trap::decode(&instruction, registers)?,
        };
        let next = out_of_line.unwrap_or(instruction.next_ip());
        Some(Pending { is_answered: !trap.reads(), trap, instruction, next })
    }

    fn fault(&self, registers: &Registers, interruption: Interruption) -> Fault {
        let &Registers { rip, rsp, .. } = registers;
        let address = interruption.page_fault().unwrap_or(rsp);
        let kind = match interruption.kind() {
            FaultKind::Read | FaultKind::Write if self.stack.is_below(address) => FaultKind::StackOverflow,
            kind => kind,
        };
        let blamed = match kind {
            // Where it leads says nothing; where it comes from is on top of the stack, if it is a call.
            FaultKind::Execute => self.caller(rsp),
            _ if trampoline::is_native(rip) => self.caller(rsp.wrapping_add(NATIVE_FRAME)),
            _ => self.stack.machine().images().iter().find_map(|image| image.home(rip)),
        };
        Fault { kind, rip: blamed.unwrap_or(rip), address }
    }

    /// The return address there, if it is one.
    fn caller(&self, at: u64) -> Option<u64> {
        let caller = stack::read(at)?;
        self.stack.machine().images().iter().any(|image| image.range().contains(&caller)).then_some(caller)
    }

    fn fail(&mut self, kind: FaultKind, rip: u64, address: u64) -> Yield {
        self.state = State::Over;
        Yield::Fault(Fault { kind, rip, address })
    }

    fn innermost(&self) -> &Call {
        self.calls.last().expect("an activation is at least one call")
    }

    fn innermost_mut(&mut self) -> &mut Call {
        self.calls.last_mut().expect("an activation is at least one call")
    }
}

impl Pending {
    fn check(&self) {
        assert!(self.trap.can_continue(), "there is no going on after {:?}", self.trap);
        assert!(self.is_answered, "{:?} waits for an answer", self.trap);
    }
}

/// The home space of a call's register arguments ("x64 calling convention", Microsoft Learn): it belongs to the callee,
/// which makes one array of all arguments.
const HOME: u64 = 32;

impl Call {
    /// A call from a function whose frame ends at `below`, if there is room for one.
    fn new(stack: &KernelStack, below: u64, function: u64, arguments: [u64; 4]) -> Option<Self> {
        // Aligned for the callee's home space; the return address comes below that.
        let top = (below & !15) - HOME;
        let rsp = top - 8;
        stack.push(rsp, trampoline::returned())?;
        Some(Self { context: Context::new(function, rsp, arguments), top, function })
    }

    fn return_from_export(&mut self, value: u64) {
        let registers = &mut self.context.registers;
        registers.rip = stack::read(registers.rsp).expect("an import's return address has been read before");
        registers.rsp += 8;
        registers.rax = value;
        self.context.scramble_volatile();
    }
}

/// The arguments of a call, until the activation is resumed.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    /// The address of the return address.
    rsp: u64,
}

impl Arguments {
    /// The argument of that number, from 0. One that the caller did not pass is whatever is on its stack.
    ///
    /// # Panics
    ///
    /// There is no stack where it would be.
    #[must_use]
    pub fn get(&self, number: usize) -> u64 {
        let address = self.rsp + 8 + 8 * number as u64;
        stack::read(address)
            .unwrap_or_else(|| panic!("argument {number} would be at {address:#x}, off the stack"))
    }

    /// The return address of the call.
    ///
    /// # Panics
    ///
    /// Never: it was read before.
    #[must_use]
    pub fn caller(&self) -> u64 {
        stack::read(self.rsp).expect("a return address that has been read before")
    }
}
