//! Reading a table while it lives: rows with their texts, or a compact copy.
#![forbid(unsafe_code)]

use core::fmt;

use super::{
    Row, Scope, ScopeHead,
    head::{COMPACT, at},
    record::Words,
};
use crate::{Table, running};

/// The slots of a table that have ever been used, each read whole: see [`Row`]. Made by [`Table::tasks`].
///
/// It takes no lock and holds nobody up. Rows are of the moments at which they were read, one after the other.
#[derive(Clone)]
pub struct Tasks<'t, const S: usize> {
    table: &'t Table<S>,
    next: u32,
}

/// A compact copy did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveError {
    /// The bytes that it takes.
    pub needed: usize,
    /// The bytes that there are.
    pub given: usize,
}

impl<const S: usize> Table<S> {
    /// What every slot holds that has ever been used. Callable at any level.
    #[must_use]
    pub fn tasks(&self) -> Tasks<'_, S> {
        Tasks { table: self, next: 0 }
    }

    /// Bytes that a compact copy takes as long as no further slot is used: 144, and 88 for each slot that was.
    #[must_use]
    pub fn saved_size(&self) -> usize {
        size_of_copy(self.high_water())
    }

    /// Writes a compact copy, which [`read`](super::read) understands, to the front of some bytes. Returns how many.
    ///
    /// Each record is copied whole; one that changes all the while is marked so. Callable at any level, in a bugcheck
    /// callback too: no lock, no allocation, no more than a few reads of each word.
    ///
    /// # Errors
    ///
    /// There is not enough room; nothing was written.
    pub fn save(&self, bytes: &mut [u8]) -> Result<usize, SaveError> {
        let used = self.high_water();
        let needed = size_of_copy(used);
        let error = SaveError { needed, given: bytes.len() };
        let (head, slots) =
            bytes.get_mut(..needed).and_then(|copy| copy.split_first_chunk_mut()).ok_or(error)?;
        *head = self.head().compact(used, self.lane().code());
        for (index, place) in (0..used).zip(slots.chunks_exact_mut(COMPACT as usize)) {
            let words = self.header(index).map(Words::of).unwrap_or_default();
            place.iter_mut().zip(words.bytes()).for_each(|(place, byte)| *place = byte);
        }
        Ok(needed)
    }
}

const fn size_of_copy(slots: u32) -> usize {
    (slots as usize).saturating_mul(COMPACT as usize).saturating_add(at::SLOT)
}

impl<const S: usize> Iterator for Tasks<'_, S> {
    type Item = Row<'static>;

    fn next(&mut self) -> Option<Row<'static>> {
        let slot = self.next;
        if slot >= self.table.high_water() {
            return None;
        }
        self.next = slot.wrapping_add(1);
        Some(running::row(self.table.header(slot)?, slot, self.table.lane()))
    }
}

impl ScopeHead {
    /// What a reader sees of it; none if it was never open. Callable at any level. While it is being opened again, the
    /// words of both times may be mixed.
    #[must_use]
    pub fn read(&'static self) -> Option<Scope<'static>> {
        running::scope(self)
    }
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, given } = self;
        write!(f, "a copy of the table takes {needed} bytes, and there are {given}: give it more")
    }
}

impl core::error::Error for SaveError {}

impl<const S: usize> fmt::Debug for Tasks<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::ptr::NonNull;

    use crate::{Budget, Executor, Pool, Table, platform::polling::Polling, task_table::State};

    static POOL: Pool<64, 1> = Pool::new();
    static EXECUTOR: Executor<Polling> = Executor::named("slow", Polling::new(), Budget::DEFAULT);

    /// A spawn takes a few instructions from the claim of a slot to the tenant's words. Whoever looks between the two must
    /// not take the last tenant's words for the next one's.
    #[test]
    fn a_slot_that_is_being_moved_into() -> Result<(), &'static str> {
        let table: &'static Table<64> = &POOL;
        let row = || table.tasks().next().ok_or("the slot was used");
        for generation in [1, 3] {
            let slot = table.claim(NonNull::from(&EXECUTOR).cast(), false).ok_or("the slot is free")?;
            let seen = row()?;
            assert_eq!((seen.state, seen.name, seen.generation), (State::Changing, "", generation), "{seen}");
            slot.give_back();
            assert_eq!(row()?.state, State::Free);
            // A tenant that is dropped before its first turn, which leaves nothing of a poll.
            let task = EXECUTOR.spawn_with(table, || async {}).map_err(|_| "the slot is free")?;
            assert_eq!(row()?.state, State::Queued);
            task.abort();
            drop(task);
            EXECUTOR.try_run(&mut ());
        }
        Ok(())
    }
}
