//! Calls from the driver and into it: what happens between two steps of a context.
#![forbid(unsafe_code)]

use crate::{
    cpu::{DISPATCH_LEVEL, Id, State, Wait},
    kernel::{Kernel, World},
    machine::{Activation, Arguments, Fault, FaultKind, Hypercall, Resume, Trap, Yield},
    trace::What,
    verdict::{Finding, Verdict},
    watchdog,
    xen::Xen,
};

/// A call of an export.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) cpu: usize,
    pub(crate) id: Id,
    /// The caller's IRQL.
    pub(crate) irql: u8,
    arguments: Arguments,
}

impl Call {
    /// An argument, from zero, as wide as a register.
    pub(crate) fn argument(&self, index: usize) -> u64 {
        self.arguments.get(index)
    }

    /// The low half of an argument, for a parameter of 32 bits: what is above is not defined.
    pub(crate) fn narrow(&self, index: usize) -> u32 {
        u32::try_from(self.argument(index) & 0xFFFF_FFFF).expect("32 bits")
    }

    /// The low byte of an argument, for a BOOLEAN or a KIRQL.
    pub(crate) fn byte(&self, index: usize) -> u8 {
        u8::try_from(self.argument(index) & 0xFF).expect("8 bits")
    }

    /// An error at `DISPATCH_LEVEL` or above, for something about the call that makes it one for lower levels.
    pub(crate) fn only_below_dispatch(&self, what: &str) -> Result<(), Finding> {
        if self.irql < DISPATCH_LEVEL {
            return Ok(());
        }
        Err(Verdict::IrqlAtCall.because(format!("{what} at IRQL {}", self.irql)))
    }

    /// Where the call is, by its return address.
    pub(crate) fn caller(&self) -> u64 {
        self.arguments.caller()
    }
}

/// How a call goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// It returns this.
    Return(u64),
    /// It returns when the wait is over.
    Block(Wait),
    /// It calls back, and what comes then is told by the frame.
    Call { routine: u64, arguments: [u64; 4], then: Then },
}

/// An answer, or what is wrong with the call.
pub(crate) type Outcome = Result<Answer, Finding>;

/// A routine of the driver's that the kernel has called.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) then: Then,
    /// The IRQL that it was called at.
    pub(crate) irql: u8,
    /// The spin locks that its context held.
    pub(crate) locks: usize,
    pub(crate) routine: u64,
}

/// What the kernel does when a routine returns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// Keeps the result for the scenario.
    Keep,
    /// Is done with the DPC.
    Dpc,
    /// Is done with the system thread, which has kept this driver loaded.
    Exit { driver: u64 },
    /// Is done with the interrupt, if it was claimed.
    Isr { lock: u64 },
    /// Looks at what a dispatch routine returned, and gives it to who sent the IRP.
    Dispatch { irp: u64, visit: usize },
    /// Goes on completing the IRP, and then answers `IofCompleteRequest` or `IofCallDriver`.
    Completion { irp: u64, answer: u64 },
}

impl Kernel {
    /// Lets a context run to its next call, trap or end.
    pub(crate) fn go_on(&mut self, cpu: usize, id: Id) -> Result<(), Finding> {
        if let State::Blocked(Wait::Hypercall { .. }) = self.context(id).state {
            // It was answered when it was made.
            self.context_mut(id).state = State::Ready;
        } else if let State::Blocked(wait) = self.context(id).state {
            let answer = self.wait_is_over(id, wait)?;
            self.note(Some(cpu), What::Gets(answer));
            let context = self.context_mut(id);
            context.next = Resume::Return(answer);
            context.state = State::Ready;
        }
        let region = self.cpus[cpu].region;
        let context = self.context_mut(id);
        context.calls += 1;
        let next = std::mem::replace(&mut context.next, Resume::Continue);
        watchdog::enters(context.caller);
        let stopped = context.activation.resume(next, region);
        watchdog::leaves();
        match stopped {
            Yield::Export { index, arguments } => {
                let answer = self.export(cpu, id, index, arguments)?;
                self.follow(cpu, id, answer);
                self.check_deadlock(id)
            }
            Yield::Returned(value) => {
                let answer = self.returned(cpu, id, value)?;
                self.follow(cpu, id, answer);
                Ok(())
            }
            Yield::Finished(value) => {
                match self.returned(cpu, id, value)? {
                    // The context has no call of its own that could wait.
                    Answer::Return(_) | Answer::Block(_) => self.end(id),
                    Answer::Call { routine, arguments, then } => {
                        self.begin_again(id, routine, arguments, then);
                    }
                }
                Ok(())
            }
            Yield::Trap(trap) => self.trap(cpu, id, &trap),
            Yield::Fault(fault) => Err(self.fault(&fault)),
        }
    }

    /// What a context does with the answer to its call.
    fn follow(&mut self, cpu: usize, id: Id, answer: Answer) {
        match answer {
            Answer::Return(value) => {
                self.note(Some(cpu), What::Gets(value));
                self.context_mut(id).next = Resume::Return(value);
            }
            Answer::Block(wait) => {
                self.note(Some(cpu), What::Notes(wait.to_string()));
                self.context_mut(id).state = State::Blocked(wait);
                if !wait.keeps_cpu() {
                    self.take_off(id);
                }
            }
            Answer::Call { routine, arguments, then } => {
                self.note(Some(cpu), What::Begins { routine, arguments });
                let locks = self.locks.held_by(id).count();
                let context = self.context_mut(id);
                context.frames.push(Frame { then, irql: context.irql, locks, routine });
                context.next = Resume::Call { function: routine, arguments };
            }
        }
    }

    /// The context's own routine has returned, and the kernel calls another one in its place.
    fn begin_again(&mut self, id: Id, routine: u64, arguments: [u64; 4], then: Then) {
        let stack = self.machine.stack();
        self.memory.add_stack(&stack.range());
        let context = self.context_mut(id);
        let old = context.activation.stack();
        context.activation = Activation::new(stack, routine, arguments);
        context.next = Resume::Start;
        context.frames.push(Frame { then, irql: context.irql, locks: 0, routine });
        self.memory.remove_stack(&old);
    }

    // From the driver.

    fn export(&mut self, cpu: usize, id: Id, index: u32, arguments: Arguments) -> Outcome {
        let export = self.imports[index as usize];
        let call = Call { cpu, id, irql: self.context(id).irql, arguments };
        let shown =
            std::array::from_fn(|at| if at < export.arguments.into() { call.argument(at) } else { 0 });
        self.note(Some(cpu), What::Calls { export: export.name, arguments: shown, count: export.arguments });
        let context = self.context_mut(id);
        context.caller = call.caller();
        // "x64 exception handling": every function but a leaf has its unwind data, or no exception could pass it.
        context.activation.frames().map_err(|error| Verdict::Unwind.because(error.to_string()))?;
        if self.world == World::Dump && !export.in_dump {
            return Err(Verdict::NotInDump.because(export.name));
        }
        if !export.irql.contains(&call.irql) {
            let (name, source) = (export.name, export.source);
            let (from, to) = (export.irql.start(), export.irql.end());
            let allowed = format!("it may be called from {from} to {to} (\"{source}\")");
            return Err(Verdict::IrqlAtCall.because(format!("{name} at IRQL {}: {allowed}", call.irql)));
        }
        (export.double)(self, &call).map_err(|mut finding| {
            finding.facts = format!("{}: {}", export.name, finding.facts);
            finding
        })
    }

    fn trap(&mut self, cpu: usize, id: Id, trap: &Trap) -> Result<(), Finding> {
        let at = self.context(id).activation.registers().rip;
        self.context_mut(id).caller = at;
        let mut note = |instruction, operands| {
            self.note(Some(cpu), What::Traps { instruction, operands });
        };
        match *trap {
            Trap::Atomic => {}
            Trap::Cpuid { leaf, subleaf } => {
                note("cpuid", [leaf.into(), subleaf.into()]);
                let leaves = self.xen.cpuid(leaf);
                self.context_mut(id).activation.answer_cpuid(leaves);
            }
            Trap::Hypercall { instruction } => {
                let registers = self.contexts.get_mut(&id).expect("it runs").activation.registers_mut();
                let operands = [registers.rax, registers.rdi];
                let result = self.xen.hypercall(instruction, registers).map_err(|finding| finding.at(at))?;
                self.context_mut(id).activation.answer(result);
                let instruction = if instruction == Hypercall::Vmcall { "vmcall" } else { "vmmcall" };
                self.note(Some(cpu), What::Traps { instruction, operands });
                if let Some(time) = self.xen.takes() {
                    self.context_mut(id).state = State::Blocked(Wait::Hypercall { until: self.now + time });
                }
            }
            Trap::Rdtsc | Trap::Rdtscp => {
                note("rdtsc", [0; 2]);
                let time = self.time_stamp();
                let activation = &mut self.context_mut(id).activation;
                activation.answer(time);
                if matches!(trap, Trap::Rdtscp) {
                    activation.registers_mut().rcx = cpu as u64;
                }
            }
            Trap::In { port, width } => {
                note("in", [port.into(), width.into()]);
                let Some(value) = self.xen.port(port, width) else {
                    let facts = format!("{width} bytes are read from port {port:#x}");
                    return Err(Verdict::Privileged.because(facts).at(at));
                };
                self.context_mut(id).activation.answer(value.into());
            }
            Trap::Out { port, width, value } => {
                note("out", [port.into(), value.into()]);
                if !Xen::accepts(port, width) {
                    let facts = format!("{width} bytes are written to port {port:#x}");
                    return Err(Verdict::Privileged.because(facts).at(at));
                }
            }
            Trap::Wrmsr { register, value } => {
                note("wrmsr", [register.into(), value]);
                if self.xen.hypercall_register() != Some(register) {
                    let facts = format!("{value:#x} is written to MSR {register:#x}");
                    return Err(Verdict::Privileged.because(facts).at(at));
                }
                self.fill_hypercall_page(value).map_err(|finding| finding.at(at))?;
            }
            Trap::ReadCr8 => {
                let irql = self.context(id).irql;
                self.context_mut(id).activation.answer(irql.into());
            }
            Trap::FastFail(code) => {
                return Err(Verdict::Bugcheck.because(format!("fast fail {code}")).at(at));
            }
            Trap::Breakpoint => return Err(Verdict::Exception.because("a breakpoint").at(at)),
            ref other => return Err(Verdict::Privileged.because(format!("{other:?}")).at(at)),
        }
        self.context_mut(id).next = Resume::Continue;
        Ok(())
    }

    fn fault(&self, fault: &Fault) -> Finding {
        let facts = fault.to_string();
        let finding = match fault.kind {
            FaultKind::Read => self.memory.blame(fault.address, false),
            FaultKind::Write => self.memory.blame(fault.address, true),
            FaultKind::StackOverflow => Verdict::StackOverflow.because(facts),
            FaultKind::Misaligned => Verdict::Misaligned.because(facts),
            FaultKind::Clobbered(_) => Verdict::Clobbered.because(facts),
            _ => Verdict::Exception.because(facts),
        };
        finding.at(fault.rip)
    }

    // Into the driver.

    /// A routine that the kernel has called returns.
    fn returned(&mut self, cpu: usize, id: Id, value: u64) -> Outcome {
        let locks = self.locks.held_by(id).count();
        let context = self.context_mut(id);
        let frame = context.frames.pop().expect("the kernel has called what returns");
        // What is above a result in its register is not defined.
        let value = value
            & match frame.then {
                Then::Dpc | Then::Exit { .. } => 0,
                Then::Isr { .. } => 0xFF,
                Then::Keep | Then::Dispatch { .. } | Then::Completion { .. } => 0xFFFF_FFFF,
            };
        let context = self.context(id);
        let irql = context.irql;
        self.note(Some(cpu), What::Ends(value));
        // "Managing Hardware Priorities": who raises the IRQL lowers it before returning.
        if irql != frame.irql {
            let facts = format!("{:#x} was called at {} and returned at {irql}", frame.routine, frame.irql);
            return Err(Verdict::IrqlAtReturn.because(facts).at(frame.routine));
        }
        if locks > frame.locks {
            let held: Vec<String> = self.locks.held_by(id).map(|lock| format!("{lock:#x}")).collect();
            let facts = format!("{:#x} returned holding {}", frame.routine, held.join(", "));
            return Err(Verdict::LockAtReturn.because(facts).at(frame.routine));
        }
        match frame.then {
            Then::Keep => {
                self.results.insert(id, value);
                Ok(Answer::Return(value))
            }
            Then::Dpc | Then::Exit { .. } => Ok(Answer::Return(value)),
            Then::Isr { lock } => self.isr_returned(lock, value).map_err(|finding| finding.at(frame.routine)),
            Then::Dispatch { irp, visit } => self.dispatched(irp, visit, value, frame.routine),
            Then::Completion { irp, answer } => self.go_on_completing(irp, value, answer, id),
        }
    }

    /// What a wait that is over answers, after it has taken effect.
    fn wait_is_over(&mut self, id: Id, wait: Wait) -> Result<u64, Finding> {
        match wait {
            Wait::Spin { lock, old_irql } => {
                self.own(lock, id, old_irql)?;
                Ok(old_irql.unwrap_or(0).into())
            }
            Wait::Object { .. } => Ok(u64::from(nt_sys::STATUS_TIMEOUT.cast_unsigned())),
            Wait::Handover { answer, .. } => Ok(answer),
            Wait::Stall { .. }
            | Wait::Hypercall { .. }
            | Wait::Delay { .. }
            | Wait::Registry { .. }
            | Wait::Flush { .. }
            | Wait::Isr { .. }
            | Wait::Irp { .. }
            | Wait::RemoveLock { .. } => Ok(0),
        }
    }
}
