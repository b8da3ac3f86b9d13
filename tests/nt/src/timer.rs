//! Time: timers, stalls and clocks.
//!
//! Time is virtual, in units of 100 ns since the start. Timers and time-outs end at ticks of the system clock; how long a
//! tick is, the seed says.
#![forbid(unsafe_code)]
#![expect(clippy::unnecessary_wraps, reason = "all doubles are called alike, by the table of exports")]

use std::{collections::BTreeMap, mem::offset_of, ops::Range};

use nt_sys::KTIMER;

use crate::{
    call::{Answer, Call, Outcome},
    cpu::Wait,
    event::{SIGNAL_STATE, TIMER_OBJECTS},
    kernel::{Due, Kernel},
    schedule::Dice,
    verdict::{Finding, Verdict},
};

/// Milliseconds, microseconds and seconds in units of 100 ns.
const MILLISECOND: u64 = 10_000;
const MICROSECOND: u64 = 10;
const SECOND: u64 = 10_000_000;
/// The system time at the start, since 1601: `KeQuerySystemTime`. It is in 2026.
const SYSTEM_TIME: u64 = 0x01DD_0000_0000_0000;
/// The time-stamp counter runs at 2.5 GHz.
const CYCLES: u64 = 250;
/// Clock ticks: 0.5 ms to the default of 15.6 ms.
const TICKS: [u64; 3] = [5_000, 10_000, 156_250];

const DUE_TIME: u64 = offset_of!(KTIMER, DueTime) as u64;
const DPC: u64 = offset_of!(KTIMER, Dpc) as u64;
const PERIOD: u64 = offset_of!(KTIMER, Period) as u64;

/// The timers that are set, by address.
#[derive(Debug)]
pub(crate) struct Timers {
    queue: BTreeMap<u64, Armed>,
    tick: u64,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    serial: u64,
    due: u64,
    /// Units of 100 ns; zero is once.
    period: u64,
    dpc: u64,
}

impl Timers {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        Self { queue: BTreeMap::new(), tick: TICKS[dice.index(TICKS.len())] }
    }
}

impl Kernel {
    /// `KeInitializeTimerEx`.
    pub(crate) fn ke_initialize_timer_ex(&mut self, call: &Call) -> Outcome {
        let (timer, kind) = (call.argument(0), call.narrow(1));
        if self.timers.queue.contains_key(&timer) {
            return Err(Verdict::Reinitialized.because(format!("the KTIMER at {timer:#x} is set")));
        }
        self.memory.write_bytes(timer, &[0; size_of::<KTIMER>()])?;
        let object = TIMER_OBJECTS[usize::from(kind != 0)];
        self.memory.write(timer, object)?;
        Ok(Answer::Return(0))
    }

    /// `KeSetTimerEx` returns TRUE if the timer was in the timer queue.
    pub(crate) fn ke_set_timer_ex(&mut self, call: &Call) -> Outcome {
        self.set_timer(call.argument(0), call.argument(1), call.narrow(2), 0, call.argument(3))
    }

    /// `KeSetCoalescableTimer`: the same, but it expires up to `TolerableDelay` milliseconds after `DueTime`. (After that
    /// exactly once a `Period`, which is one of the ways that its tolerance allows.) Neither may be negative as a `LONG`.
    pub(crate) fn ke_set_coalescable_timer(&mut self, call: &Call) -> Outcome {
        let (period, delay) = (call.narrow(2), call.narrow(3));
        if let Some(negative) = [period, delay].into_iter().find(|one| one.cast_signed() < 0) {
            return Err(Verdict::NotModelled.because(format!("a Period or TolerableDelay of {negative:#x}")));
        }
        self.set_timer(call.argument(0), call.argument(1), period, delay.into(), call.argument(4))
    }

    fn set_timer(&mut self, timer: u64, due_time: u64, period: u32, tolerance: u64, dpc: u64) -> Outcome {
        self.initialized_timer(timer)?;
        if dpc != 0 {
            self.initialized_dpc(dpc)?;
        }
        let was_set = self.timers.queue.remove(&timer).is_some();
        let delay = self.dice.below(tolerance * MILLISECOND + 1);
        let due = self.time_of(due_time.cast_signed()) + delay;
        self.memory.write(timer + SIGNAL_STATE, 0_u32)?;
        self.memory.write(timer + DUE_TIME, due)?;
        self.memory.write(timer + DPC, dpc)?;
        self.memory.write(timer + PERIOD, period)?;
        self.arm(timer, due, u64::from(period) * MILLISECOND, dpc);
        Ok(Answer::Return(was_set.into()))
    }

    fn arm(&mut self, timer: u64, due: u64, period: u64, dpc: u64) {
        let serial = self.number();
        self.timers.queue.insert(timer, Armed { serial, due, period, dpc });
        self.schedule(self.tick_after(due) - self.now, Due::Timer { timer, serial });
    }

    /// "Timer Accuracy": the first tick of the system clock that is still to come and not before this time.
    pub(crate) fn tick_after(&self, time: u64) -> u64 {
        time.max(self.now + 1).checked_next_multiple_of(self.timers.tick).unwrap_or(u64::MAX)
    }

    /// A `LARGE_INTEGER` of a due time: negative is from now, positive is system time.
    pub(crate) fn time_of(&self, due_time: i64) -> u64 {
        match u64::try_from(due_time) {
            Ok(absolute) => absolute.saturating_sub(SYSTEM_TIME).max(self.now),
            Err(_) => self.now.saturating_add(due_time.unsigned_abs()),
        }
    }

    /// `KeCancelTimer` returns TRUE if the timer was in the timer queue, where periodic ones always are. A DPC that
    /// is queued already is left alone.
    pub(crate) fn ke_cancel_timer(&mut self, call: &Call) -> Outcome {
        let timer = self.initialized_timer(call.argument(0))?;
        Ok(Answer::Return(self.timers.queue.remove(&timer).is_some().into()))
    }

    /// `KeReadStateTimer` returns TRUE if the timer is signaled: it has expired, and was not set again.
    pub(crate) fn ke_read_state_timer(&mut self, call: &Call) -> Outcome {
        let timer = self.initialized_timer(call.argument(0))?;
        let state: u32 = self.memory.read(timer + SIGNAL_STATE)?;
        Ok(Answer::Return((state != 0).into()))
    }

    fn initialized_timer(&self, timer: u64) -> Result<u64, Finding> {
        self.memory.check(timer, size_of::<KTIMER>())?;
        let object: u8 = self.memory.read(timer)?;
        if TIMER_OBJECTS.contains(&object) {
            return Ok(timer);
        }
        Err(Verdict::NotInitialized.because(format!("the KTIMER at {timer:#x} is of type {object}")))
    }

    /// `KeSetTimerEx`: the timer leaves the queue, is signaled, and its DPC is queued; a periodic one is set again.
    pub(crate) fn timer_expires(&mut self, timer: u64, serial: u64) -> Result<(), Finding> {
        let Some(&armed) = self.timers.queue.get(&timer).filter(|armed| armed.serial == serial) else {
            return Ok(());
        };
        self.timers.queue.remove(&timer);
        if armed.period != 0 {
            self.arm(timer, armed.due + armed.period, armed.period, armed.dpc);
        }
        self.signal(timer)?;
        if armed.dpc != 0 {
            let cpu = self.dice.index(self.cpus.len());
            self.queue_dpc(armed.dpc, [0; 2], cpu)?;
        }
        Ok(())
    }

    /// A set timer in a range, for who frees it.
    pub(crate) fn timer_in(&self, range: &Range<u64>) -> Option<String> {
        let (timer, _) = self.timers.queue.range(range.clone()).next()?;
        Some(format!("the KTIMER at {timer:#x}, which is set,"))
    }

    /// A set timer whose DPC is, or has its routine, in a range.
    pub(crate) fn timer_into(&self, range: &Range<u64>) -> Option<u64> {
        let routine = |armed: &Armed| self.routine_of(armed.dpc);
        let leads_there = |armed: &Armed| {
            range.contains(&armed.dpc) || routine(armed).is_some_and(|at| range.contains(&at))
        };
        self.timers.queue.iter().find(|(_, armed)| leads_there(armed)).map(|(&timer, _)| timer)
    }

    /// `KeDelayExecutionThread`: a thread without work of its own gives up its CPU for so long.
    pub(crate) fn ke_delay_execution_thread(&mut self, call: &Call) -> Outcome {
        if call.byte(1) != 0 {
            return Err(Verdict::NotModelled.because("Alertable = TRUE"));
        }
        let time = self.memory.read::<u64>(call.argument(2))?.cast_signed();
        Ok(Answer::Block(Wait::Delay { until: self.tick_after(self.time_of(time)) }))
    }

    // Clocks.

    /// `KeStallExecutionProcessor`: at least so many microseconds, and not much longer.
    pub(crate) fn ke_stall_execution_processor(&mut self, call: &Call) -> Outcome {
        let until = self.now + u64::from(call.narrow(0)) * MICROSECOND;
        Ok(Answer::Block(Wait::Stall { until }))
    }

    /// `KeQueryPerformanceCounter`: the same on all processors, and never going back; here, in units of 100 ns.
    pub(crate) fn ke_query_performance_counter(&mut self, call: &Call) -> Outcome {
        if call.argument(0) != 0 {
            self.memory.write(call.argument(0), SECOND)?;
        }
        Ok(Answer::Return(self.now))
    }

    /// `KeQueryUnbiasedInterruptTime`: counted by clock ticks.
    pub(crate) fn ke_query_unbiased_interrupt_time(&mut self, _call: &Call) -> Outcome {
        Ok(Answer::Return(self.now - self.now % self.timers.tick))
    }

    /// The time-stamp counter.
    pub(crate) fn time_stamp(&self) -> u64 {
        self.now * CYCLES
    }
}
