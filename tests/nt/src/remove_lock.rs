//! Remove locks: "Using Remove Locks".
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, ops::Range};

use nt_sys::{IO_REMOVE_LOCK, STATUS_DELETE_PENDING, STATUS_SUCCESS};

use crate::{
    call::{Answer, Call, Outcome},
    cpu::Wait,
    dpc::status,
    kernel::Kernel,
    verdict::{Finding, Verdict},
};

/// The remove locks that have been initialized, by address.
#[derive(Debug, Default)]
pub(crate) struct RemoveLocks(BTreeMap<u64, Lock>);

#[derive(Debug, Default)]
struct Lock {
    /// The tag of each acquisition that has not been released.
    tags: Vec<u64>,
    /// Somebody has acquired it.
    used: bool,
    /// `IoReleaseRemoveLockAndWait` has been called.
    removed: bool,
}

impl RemoveLocks {
    pub(crate) fn is_free(&self, lock: u64) -> bool {
        self.0.get(&lock).is_none_or(|lock| lock.tags.is_empty())
    }
}

impl Kernel {
    /// `IoInitializeRemoveLock`: once, before anything else, and not again after removal.
    pub(crate) fn io_initialize_remove_lock_ex(&mut self, call: &Call) -> Outcome {
        let (lock, size) = (call.argument(0), call.narrow(4));
        if size as usize != size_of::<IO_REMOVE_LOCK>() {
            return Err(Verdict::RemoveLock.because(format!("the size is {size}")));
        }
        self.memory.write_bytes(lock, &[0; size_of::<IO_REMOVE_LOCK>()])?;
        if self.remove_locks.0.insert(lock, Lock::default()).is_some() {
            return Err(Verdict::Reinitialized.because(format!("the remove lock at {lock:#x}")));
        }
        Ok(Answer::Return(0))
    }

    /// `IoAcquireRemoveLock`: after removal has begun, `STATUS_DELETE_PENDING`.
    pub(crate) fn io_acquire_remove_lock_ex(&mut self, call: &Call) -> Outcome {
        let tag = call.argument(1);
        let lock = self.remove_lock(call.argument(0))?;
        if lock.removed {
            return Ok(Answer::Return(status(STATUS_DELETE_PENDING)));
        }
        lock.tags.push(tag);
        lock.used = true;
        Ok(Answer::Return(status(STATUS_SUCCESS)))
    }

    /// `IoReleaseRemoveLock`: of an acquisition with the same tag.
    pub(crate) fn io_release_remove_lock_ex(&mut self, call: &Call) -> Outcome {
        self.release_tag(call)?;
        Ok(Answer::Return(0))
    }

    /// `IoReleaseRemoveLockAndWait`: releases, refuses further acquisitions, and waits for the others.
    pub(crate) fn io_release_remove_lock_and_wait_ex(&mut self, call: &Call) -> Outcome {
        let address = call.argument(0);
        self.release_tag(call)?;
        let lock = self.remove_lock(address)?;
        if lock.removed {
            return Err(Verdict::RemoveLock.because(format!("the lock at {address:#x} has been removed")));
        }
        lock.removed = true;
        Ok(Answer::Block(Wait::RemoveLock { lock: address }))
    }

    fn release_tag(&mut self, call: &Call) -> Result<(), Finding> {
        let (address, tag) = (call.argument(0), call.argument(1));
        let lock = self.remove_lock(address)?;
        let Some(index) = lock.tags.iter().position(|&held| held == tag) else {
            let facts = format!("the lock at {address:#x} is not held with the tag {tag:#x}");
            return Err(Verdict::RemoveLock.because(facts));
        };
        lock.tags.swap_remove(index);
        Ok(())
    }

    fn remove_lock(&mut self, address: u64) -> Result<&mut Lock, Finding> {
        self.memory.check(address, size_of::<IO_REMOVE_LOCK>())?;
        let missing = || Verdict::NotInitialized.because(format!("the remove lock at {address:#x}"));
        self.remove_locks.0.get_mut(&address).ok_or_else(missing)
    }

    /// A remove lock in a range that may still be held, for who frees it. "Using Remove Locks": before the device is
    /// deleted, `IoReleaseRemoveLockAndWait` has said that it is not.
    pub(crate) fn remove_lock_in(&self, range: &Range<u64>) -> Option<String> {
        let mut locks = self.remove_locks.0.range(range.clone());
        locks.find_map(|(address, lock)| match lock.tags.len() {
            0 if lock.removed || !lock.used => None,
            0 => Some(format!("the remove lock at {address:#x}, which nobody has waited for,")),
            times => Some(format!("the remove lock at {address:#x}, held {times} times,")),
        })
    }
}
