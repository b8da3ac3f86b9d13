//! IRQLs and spin locks.
#![forbid(unsafe_code)]
#![expect(
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "all doubles are called alike, by the table of exports"
)]

use std::{collections::BTreeMap, ops::Range};

use crate::{
    call::{Answer, Call, Outcome},
    cpu::{DISPATCH_LEVEL, HIGH_LEVEL, Id, State, Wait},
    kernel::Kernel,
    verdict::{Finding, Verdict},
};

/// The spin locks that are held, by address.
#[derive(Debug, Default)]
pub(crate) struct Locks(BTreeMap<u64, Held>);

#[derive(Debug)]
struct Held {
    by: Id,
    /// The IRQL to go back to, if acquiring raised it.
    old_irql: Option<u8>,
}

/// A lock that is held holds this.
const HELD: u64 = 1;

impl Locks {
    pub(crate) fn is_held(&self, lock: u64) -> bool {
        self.0.contains_key(&lock)
    }

    pub(crate) fn held_by(&self, id: Id) -> impl Iterator<Item = u64> {
        self.0.iter().filter(move |(_, held)| held.by == id).map(|(&lock, _)| lock)
    }
}

impl Kernel {
    // Levels.

    pub(crate) fn ke_get_current_irql(&mut self, call: &Call) -> Outcome {
        Ok(Answer::Return(call.irql.into()))
    }

    /// `KeRaiseIrqlToDpcLevel` returns the IRQL at which the call occurred.
    pub(crate) fn ke_raise_irql_to_dpc_level(&mut self, call: &Call) -> Outcome {
        self.raise(call, DISPATCH_LEVEL)
    }

    /// `KeRaiseIrql`: the new IRQL is not below the current one.
    pub(crate) fn kf_raise_irql(&mut self, call: &Call) -> Outcome {
        let irql = call.byte(0);
        if irql < call.irql || irql > HIGH_LEVEL {
            return Err(Verdict::IrqlOrder.because(format!("raised from {} to {irql}", call.irql)));
        }
        self.raise(call, irql)
    }

    fn raise(&mut self, call: &Call, irql: u8) -> Outcome {
        let context = self.context_mut(call.id);
        context.raised_from.push(call.irql);
        context.irql = irql;
        Ok(Answer::Return(call.irql.into()))
    }

    /// `KeLowerIrql`: to what the immediately preceding raise returned, and to nothing else.
    pub(crate) fn ke_lower_irql(&mut self, call: &Call) -> Outcome {
        let irql = call.byte(0);
        let raised_from = self.context_mut(call.id).raised_from.pop();
        if raised_from != Some(irql) {
            let expected =
                raised_from.map_or_else(|| "nothing was raised".into(), |from| format!("not to {from}"));
            return Err(
                Verdict::IrqlOrder.because(format!("lowered from {} to {irql}, {expected}", call.irql))
            );
        }
        if irql < DISPATCH_LEVEL
            && let Some(lock) = self.locks.held_by(call.id).next()
        {
            return Err(
                Verdict::IrqlOrder.because(format!("lowered to {irql} holding the lock at {lock:#x}"))
            );
        }
        self.context_mut(call.id).irql = irql;
        Ok(Answer::Return(0))
    }

    // Locks.

    /// `KeAcquireSpinLockRaiseToDpc` returns the IRQL for `KeReleaseSpinLock`.
    pub(crate) fn ke_acquire_spin_lock_raise_to_dpc(&mut self, call: &Call) -> Outcome {
        self.context_mut(call.id).irql = DISPATCH_LEVEL;
        self.acquire(call, Some(call.irql))
    }

    /// `KeAcquireSpinLockAtDpcLevel`: for who is at `DISPATCH_LEVEL` already.
    pub(crate) fn ke_acquire_spin_lock_at_dpc_level(&mut self, call: &Call) -> Outcome {
        self.acquire(call, None)
    }

    fn acquire(&mut self, call: &Call, old_irql: Option<u8>) -> Outcome {
        let lock = call.argument(0);
        let value: u64 = self.memory.read(lock)?;
        match self.locks.0.get(&lock) {
            Some(held) if held.by == call.id => Err(Verdict::LockRecursive.because(format!("at {lock:#x}"))),
            Some(_) => Ok(Answer::Block(Wait::Spin { lock, old_irql })),
            // `KeInitializeSpinLock` makes it zero.
            None if value != 0 => {
                Err(Verdict::NotInitialized.because(format!("the spin lock at {lock:#x} is {value:#x}")))
            }
            None => {
                self.own(lock, call.id, old_irql)?;
                Ok(Answer::Return(old_irql.unwrap_or(0).into()))
            }
        }
    }

    /// The lock is free, and now it is this context's.
    pub(crate) fn own(&mut self, lock: u64, by: Id, old_irql: Option<u8>) -> Result<(), Finding> {
        self.memory.write(lock, HELD)?;
        self.locks.0.insert(lock, Held { by, old_irql });
        Ok(())
    }

    /// `KeReleaseSpinLock`: of a lock whose acquisition raised the IRQL, back to that.
    pub(crate) fn ke_release_spin_lock(&mut self, call: &Call) -> Outcome {
        let irql = call.byte(1);
        match self.disown(call)? {
            Some(old_irql) if old_irql == irql => {
                self.context_mut(call.id).irql = irql;
                Ok(Answer::Return(0))
            }
            Some(old_irql) => {
                Err(Verdict::IrqlOrder.because(format!("to {irql}, but it was acquired at {old_irql}")))
            }
            None => Err(Verdict::LockMismatch.because("it was acquired at DPC level")),
        }
    }

    /// `KeReleaseSpinLockFromDpcLevel`: of a lock whose acquisition left the IRQL as it was.
    pub(crate) fn ke_release_spin_lock_from_dpc_level(&mut self, call: &Call) -> Outcome {
        match self.disown(call)? {
            None => Ok(Answer::Return(0)),
            Some(_) => Err(Verdict::LockMismatch.because("its acquisition has raised the IRQL")),
        }
    }

    fn disown(&mut self, call: &Call) -> Result<Option<u8>, Finding> {
        let lock = call.argument(0);
        self.memory.check(lock, size_of::<u64>())?;
        match self.locks.0.remove(&lock) {
            Some(held) if held.by == call.id => {
                self.memory.write(lock, 0_u64)?;
                Ok(held.old_irql)
            }
            Some(held) => {
                let owner = self.context(held.by).name(held.by);
                Err(Verdict::LockNotOwned.because(format!("the lock at {lock:#x} is {owner}'s")))
            }
            None => Err(Verdict::LockNotOwned.because(format!("the lock at {lock:#x} is nobody's"))),
        }
    }

    // Checks.

    /// Whether a context that has just begun to spin waits for itself.
    ///
    /// Who spins waits for the owner; who lies below another context on a CPU waits for the one above.
    pub(crate) fn check_deadlock(&self, id: Id) -> Result<(), Finding> {
        let mut chain = Vec::new();
        let mut at = id;
        while let Some(next) = self.waits_for(at) {
            chain.push(at);
            if chain.contains(&next) {
                let text: Vec<String> = chain.iter().map(|&id| self.waiter(id)).collect();
                return Err(Verdict::Deadlock.because(text.join("; ")));
            }
            at = next;
        }
        Ok(())
    }

    fn waits_for(&self, id: Id) -> Option<Id> {
        let context = self.contexts.get(&id)?;
        if let State::Blocked(Wait::Spin { lock, .. }) = context.state {
            return self.locks.0.get(&lock).map(|held| held.by);
        }
        let contexts = &self.cpus[context.cpu?].contexts;
        let above = contexts.iter().position(|&other| other == id)? + 1;
        contexts.get(above).copied()
    }

    fn waiter(&self, id: Id) -> String {
        let context = self.context(id);
        let name = context.name(id);
        match context.state {
            State::Blocked(wait) => format!("{name} at {:#x} {wait}", context.caller),
            State::Ready => format!("{name} is interrupted"),
        }
    }

    /// Who owns what is waited for.
    pub(crate) fn owner_of(&self, wait: Wait) -> Option<String> {
        let Wait::Spin { lock, .. } = wait else { return None };
        let held = self.locks.0.get(&lock)?;
        Some(self.contexts.get(&held.by)?.name(held.by).to_string())
    }

    /// A held lock in a range, for who frees it.
    pub(crate) fn lock_in(&self, range: &Range<u64>) -> Option<String> {
        let (lock, _) = self.locks.0.range(range.clone()).next()?;
        Some(format!("the spin lock at {lock:#x}, which is held,"))
    }
}

/// An interrupt's lock, which the kernel acquires around its ISR: `IO_CONNECT_INTERRUPT_PARAMETERS`.
impl Kernel {
    pub(crate) fn acquire_for_isr(&mut self, lock: u64, id: Id) -> Result<(), Finding> {
        if lock == 0 { Ok(()) } else { self.own(lock, id, None) }
    }

    pub(crate) fn release_for_isr(&mut self, lock: u64) -> Result<(), Finding> {
        self.locks.0.remove(&lock);
        if lock == 0 { Ok(()) } else { self.memory.write(lock, 0_u64) }
    }
}
