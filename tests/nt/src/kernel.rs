//! The simulated kernel: its state, and the step by which a run goes on.
//!
//! One step lets one context run to its next call of an export, its next trap or its end. Which one is drawn;
//! time passes by 100 ns with each step, and jumps when nobody can go. Everything that happens is a function of
//! the options, the image and the scenario.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use crate::{
    call::{Frame, Then},
    cpu::{Context, Cpu, DISPATCH_LEVEL, Id, Kind, PASSIVE_LEVEL, State, Wait},
    device::Devices,
    exports::Export,
    interrupt::Interrupts,
    irp::Irps,
    lock::Locks,
    machine::{Activation, Machine, Resume},
    memory::{Memory, PAGE},
    nt::Options,
    perfetto,
    physical::Frames,
    pnp::Nodes,
    registry::Registry,
    remove_lock::RemoveLocks,
    schedule::{Dice, Scheduler},
    thread::Handles,
    timer::Timers,
    trace::{Trace, What},
    verdict::{Failure, Finding, Verdict},
    watchdog,
    xen::Xen,
};

/// A wait of the scenario's that takes more steps than this is a hang, and so is one that takes more time (units of
/// 100 ns). Driver code that polls takes steps, driver code that sleeps takes time.
const PATIENCE_STEPS: u64 = 100_000;
const PATIENCE_TIME: u64 = 60 * 10_000_000;

/// One chance in so many that a thread is taken off its CPU between two steps.
const PREEMPTION: u64 = 8;

/// Everything there is.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) options: Options,
    /// In which world driver code runs.
    pub(crate) world: World,
    pub(crate) memory: Memory,
    pub(crate) frames: Frames,
    pub(crate) dice: Dice,
    scheduler: Scheduler,
    pub(crate) trace: Trace,
    /// Since the start, in units of 100 ns.
    pub(crate) now: u64,
    pub(crate) steps: u64,
    agenda: BTreeMap<(u64, u64), Due>,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) contexts: BTreeMap<Id, Context>,
    /// What the routines of threads have returned, until the scenario asks.
    pub(crate) results: BTreeMap<Id, u64>,
    last_number: u64,
    /// What the images import, by the number that the machine knows it by.
    pub(crate) imports: Vec<&'static Export>,
    pub(crate) locks: Locks,
    pub(crate) timers: Timers,
    pub(crate) interrupts: Interrupts,
    pub(crate) remove_locks: RemoveLocks,
    pub(crate) irps: Irps,
    pub(crate) devices: Devices,
    pub(crate) nodes: Nodes,
    pub(crate) handles: Handles,
    pub(crate) registry: Registry,
    pub(crate) xen: Xen,
    /// What drivers have said.
    pub(crate) said: Vec<String>,
    /// The CPU whose step it is.
    stepping: Option<usize>,
    pub(crate) failure: Option<Failure>,
    /// The claim to the process's one machine, given up last.
    pub(crate) machine: Machine,
}

/// In which world driver code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// A running system.
    Running,
    /// One that has crashed and writes its dump: one CPU, no interrupts, no threads, few exports.
    Dump,
}

/// Something that happens at its time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// A timer expires, if it has not been set anew since.
    Timer { timer: u64, serial: u64 },
    /// The bus driver completes an IRP that it has pended.
    BusCompletes { irp: u64 },
    /// The device interrupts.
    Upcall,
}

/// What a CPU can do next.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Take an interrupt.
    Interrupt(u64),
    /// Run the first DPC of its queue.
    Dpc,
    /// Go on with what is on top.
    Top(Id),
    /// Take up a thread that is ready.
    Thread(Id),
}

impl Drop for Kernel {
    fn drop(&mut self) {
        perfetto::write_if_wanted(self.trace.events());
    }
}

impl Kernel {
    pub(crate) fn new(mut options: Options, world: World) -> Self {
        if world == World::Dump {
            options.cpus = 1;
        }
        assert!((1..=64).contains(&options.cpus), "from 1 to 64 CPUs, not {}", options.cpus);
        let machine = Machine::claim();
        watchdog::watch(&options);
        let mut memory = Memory::new();
        let cpu = |_| {
            let region = memory.allocate_kernel(usize::try_from(PAGE).expect("a page is small"));
            Cpu { contexts: Vec::new(), dpcs: VecDeque::new(), region }
        };
        let cpus = (0..options.cpus).map(cpu).collect();
        let mut dice = Dice::new(options.seed);
        let timers = Timers::new(&mut dice);
        Self {
            world,
            machine,
            memory,
            frames: Frames::new(options.seed),
            scheduler: Scheduler::new(options.schedule),
            trace: Trace::new(),
            now: 0,
            steps: 0,
            agenda: BTreeMap::new(),
            cpus,
            contexts: BTreeMap::new(),
            results: BTreeMap::new(),
            last_number: 0,
            imports: Vec::new(),
            locks: Locks::default(),
            timers,
            interrupts: Interrupts::default(),
            remove_locks: RemoveLocks::default(),
            irps: Irps::default(),
            devices: Devices::default(),
            nodes: Nodes::default(),
            handles: Handles::default(),
            registry: Registry::default(),
            xen: Xen::new(options.xen, options.seed),
            said: Vec::new(),
            stepping: None,
            failure: None,
            dice,
            options,
        }
    }

    /// A number that has not been used in this run.
    pub(crate) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Makes something happen after so many units of 100 ns.
    pub(crate) fn schedule(&mut self, after: u64, due: Due) {
        let number = self.number();
        self.agenda.insert((self.now + after, number), due);
    }

    /// Fault injection: whether this allocation is one that fails.
    pub(crate) fn allocation_fails(&mut self) -> bool {
        self.options.allocation_failures != 0 && self.dice.hits(self.options.allocation_failures)
    }

    // Contexts.

    /// Begins a call of driver code, in a context of its own that is not on a CPU yet.
    pub(crate) fn begin(
        &mut self,
        kind: Kind,
        purpose: impl fmt::Display,
        irql: u8,
        (routine, arguments): (u64, [u64; 4]),
        then: Then,
    ) -> Id {
        let id = Id(self.number());
        let stack = self.machine.stack();
        self.memory.add_stack(&stack.range());
        let context = Context {
            kind,
            purpose: purpose.to_string(),
            activation: Activation::new(stack, routine, arguments),
            next: Resume::Start,
            state: State::Ready,
            irql,
            raised_from: Vec::new(),
            frames: vec![Frame { then, irql, locks: 0, routine }],
            cpu: None,
            avoids: None,
            caller: routine,
            calls: 0,
        };
        self.note(None, What::Notes(format!("{} begins: {}", context.name(id), context.purpose)));
        self.note(None, What::Begins { routine, arguments });
        self.contexts.insert(id, context);
        id
    }

    /// Puts a context on top of what a CPU does.
    pub(crate) fn place_on(&mut self, cpu: usize, id: Id) {
        let interrupted = self.top(cpu).map(|below| self.context(below).irql);
        assert!(
            interrupted.is_none_or(|irql| irql < self.context(id).irql),
            "this interrupts what it must not"
        );
        self.cpus[cpu].contexts.push(id);
        self.context_mut(id).cpu = Some(cpu);
    }

    /// Takes a context off its CPU, where it is on top.
    pub(crate) fn take_off(&mut self, id: Id) {
        let cpu = self.context_mut(id).cpu.take().expect("a context that runs is on a CPU");
        let top = self.cpus[cpu].contexts.pop();
        assert_eq!(top, Some(id), "only the context on top leaves its CPU");
    }

    /// A context is over.
    pub(crate) fn end(&mut self, id: Id) {
        if self.context(id).cpu.is_some() {
            self.take_off(id);
        }
        let context = self.contexts.remove(&id).expect("it ends once");
        self.memory.remove_stack(&context.activation.stack());
    }

    pub(crate) fn context(&self, id: Id) -> &Context {
        &self.contexts[&id]
    }

    pub(crate) fn context_mut(&mut self, id: Id) -> &mut Context {
        self.contexts.get_mut(&id).expect("a context that is not over")
    }

    /// The context that a CPU executes.
    pub(crate) fn top(&self, cpu: usize) -> Option<Id> {
        self.cpus[cpu].contexts.last().copied()
    }

    /// Whose call is being answered.
    pub(crate) fn acting(&self) -> Option<Id> {
        self.stepping.and_then(|cpu| self.top(cpu))
    }

    /// The IRQL of a CPU.
    pub(crate) fn irql(&self, cpu: usize) -> u8 {
        self.top(cpu).map_or(PASSIVE_LEVEL, |id| self.context(id).irql)
    }

    // Steps.

    /// Lets something happen. False if nothing can, now or later.
    pub(crate) fn step(&mut self) -> Result<bool, Failure> {
        self.alive()?;
        self.now += 1;
        self.steps += 1;
        self.expire().map_err(|finding| self.fail(finding, None))?;
        let work = self.work();
        if work.is_empty() {
            return Ok(self.end_handovers() || self.jump());
        }
        let keys: Vec<u64> = work.iter().map(|&(cpu, work)| self.key(cpu, work)).collect();
        let (cpu, work) = work[self.scheduler.pick(&mut self.dice, &keys)];
        self.stepping = Some(cpu);
        let result = self.turn(cpu, work).map_err(|finding| self.fail(finding, Some(cpu)));
        self.stepping = None;
        result.map(|()| true)
    }

    /// All that could happen next.
    fn work(&self) -> Vec<(usize, Work)> {
        let ready: Vec<Id> = self
            .contexts
            .iter()
            .filter(|(_, context)| context.is_thread() && context.cpu.is_none())
            .map(|(&id, _)| id)
            .filter(|&id| self.can_go(id))
            .collect();
        let mut work = Vec::with_capacity(8);
        for cpu in 0..self.cpus.len() {
            let irql = self.irql(cpu);
            if let Some(interrupt) = self.deliverable(cpu, irql) {
                work.push((cpu, Work::Interrupt(interrupt)));
            }
            if irql < DISPATCH_LEVEL
                && let Some(dpc) = self.cpus[cpu].dpcs.front()
            {
                work.push((cpu, Work::Dpc));
                if !dpc.can_wait {
                    continue;
                }
            }
            match self.top(cpu) {
                Some(id) if self.can_go(id) => work.push((cpu, Work::Top(id))),
                Some(_) => {}
                None => work.extend(
                    ready
                        .iter()
                        .filter(|&&id| self.context(id).avoids != Some(cpu))
                        .map(|&id| (cpu, Work::Thread(id))),
                ),
            }
        }
        work
    }

    /// Whose work it is, for priorities.
    fn key(&self, cpu: usize, work: Work) -> u64 {
        match work {
            Work::Interrupt(interrupt) => interrupt,
            Work::Dpc => self.cpus[cpu].dpcs.front().map_or(0, |dpc| dpc.serial) << 6,
            Work::Top(id) => id.0 << 6,
            Work::Thread(id) => id.0 << 6 | cpu as u64,
        }
    }

    fn turn(&mut self, cpu: usize, work: Work) -> Result<(), Finding> {
        match work {
            Work::Interrupt(interrupt) => self.begin_isr(cpu, interrupt),
            Work::Dpc => self.begin_dpc(cpu),
            Work::Thread(id) => {
                self.place_on(cpu, id);
                self.note(Some(cpu), What::Notes("is put on the CPU".to_owned()));
                self.go_on(cpu, id)
            }
            Work::Top(id) if self.is_preempted(id) => {
                self.note(Some(cpu), What::Notes("is preempted".to_owned()));
                self.take_off(id);
                Ok(())
            }
            Work::Top(id) => self.go_on(cpu, id),
        }
    }

    /// Whether a thread is to make room now.
    fn is_preempted(&mut self, id: Id) -> bool {
        if !self.context(id).can_be_preempted() {
            return false;
        }
        let is_off = |other: &Id| self.contexts.get(other).is_some_and(|other| other.cpu.is_none());
        let awaited = self.contexts.values().any(
            |other| matches!(other.state, State::Blocked(Wait::Handover { to, .. }) if to != id && is_off(&to)),
        );
        let others = self.cpus.len() > 1
            || self.contexts.iter().any(|(&other, context)| {
                other != id && context.is_thread() && context.cpu.is_none() && self.can_go(other)
            });
        awaited || (others && self.dice.hits(PREEMPTION))
    }

    /// Whether a context could run if it had a CPU.
    pub(crate) fn can_go(&self, id: Id) -> bool {
        match self.context(id).state {
            State::Ready => true,
            State::Blocked(wait) => match wait {
                Wait::Spin { lock, .. } => !self.locks.is_held(lock),
                Wait::Stall { until }
                | Wait::Hypercall { until }
                | Wait::Delay { until }
                | Wait::Registry { until } => self.now >= until,
                Wait::Handover { to, until_step, .. } => {
                    let arrived = |to: &Context| matches!(to.state, State::Blocked(_));
                    self.steps >= until_step || self.contexts.get(&to).is_none_or(arrived)
                }
                Wait::Object { timeout, .. } => timeout.is_some_and(|timeout| self.now >= timeout),
                Wait::Flush { before } => self.is_flushed(before),
                Wait::Irp { .. } => false,
                Wait::Isr { interrupt } => !self.is_isr_running(interrupt),
                Wait::RemoveLock { lock } => self.remove_locks.is_free(lock),
            },
        }
    }

    /// Ends the waits of those who have handed over to somebody who cannot get a CPU.
    fn end_handovers(&mut self) -> bool {
        let mut some = false;
        for context in self.contexts.values_mut() {
            if let State::Blocked(Wait::Handover { until_step, .. }) = &mut context.state {
                *until_step = 0;
                some = true;
            }
        }
        some
    }

    /// Lets time pass to when something happens. False if nothing will.
    fn jump(&mut self) -> bool {
        let next = self.next_event();
        // The step adds one.
        next.inspect(|time| self.now = self.now.max(time - 1)).is_some()
    }

    /// When something happens by itself.
    fn next_event(&self) -> Option<u64> {
        let wake = |context: &Context| match context.state {
            State::Blocked(
                Wait::Stall { until }
                | Wait::Hypercall { until }
                | Wait::Delay { until }
                | Wait::Registry { until },
            ) => Some(until),
            State::Blocked(Wait::Object { timeout, .. }) => timeout,
            _ => None,
        };
        let wakes = self.contexts.values().filter_map(wake);
        wakes.chain(self.agenda.first_key_value().map(|(&(time, _), _)| time)).min()
    }

    /// What is due happens.
    fn expire(&mut self) -> Result<(), Finding> {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
        {
            match entry.remove() {
                Due::Timer { timer, serial } => self.timer_expires(timer, serial)?,
                Due::BusCompletes { irp } => self.bus_completes(irp)?,
                Due::Upcall => self.raise_interrupt()?,
            }
        }
        Ok(())
    }

    /// Steps until the scenario has what it waits for.
    pub(crate) fn run_until(
        &mut self,
        what: &dyn fmt::Display,
        is_done: &dyn Fn(&Self) -> bool,
    ) -> Result<(), Failure> {
        self.try_until(is_done)?.map_err(|why| {
            let finding = Verdict::Hang.because(format!("waiting for {what}: {why}; {}", self.who_waits()));
            self.fail(finding, None)
        })
    }

    /// The same; if it does not come to that, why not.
    pub(crate) fn try_until(
        &mut self,
        is_done: &dyn Fn(&Self) -> bool,
    ) -> Result<Result<(), String>, Failure> {
        let (steps, time) = (self.steps + PATIENCE_STEPS, self.now + PATIENCE_TIME);
        while !is_done(self) {
            if !self.step()? {
                return Ok(Err("nothing can run any more".to_owned()));
            } else if self.steps > steps {
                return Ok(Err(format!("it has taken {PATIENCE_STEPS} steps")));
            } else if self.now > time {
                return Ok(Err(format!("{} s have passed", PATIENCE_TIME / 10_000_000)));
            }
        }
        self.alive().map(Ok)
    }

    /// Steps until nothing can run and nothing but timers is due.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        self.run_until(&"everything to come to rest", &|kernel| {
            kernel.work().is_empty()
                && kernel.agenda.values().all(|due| matches!(due, Due::Timer { .. }))
                && !kernel
                    .contexts
                    .values()
                    .any(|context| matches!(context.state, State::Blocked(wait) if wait.ends_by_itself()))
        })
    }

    /// Steps until so much time has passed.
    pub(crate) fn pass(&mut self, time: u64) -> Result<(), Failure> {
        let end = self.now + time;
        while self.now < end {
            if self.work().is_empty() && self.next_event().is_none_or(|time| time > end) {
                self.now = end;
            } else {
                self.step()?;
            }
        }
        self.alive()
    }
}
