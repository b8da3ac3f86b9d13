//! The executors that are compared, kexec first.

pub(super) mod async_executor;
pub(super) mod embassy;
pub(super) mod futures_executor;
pub(super) mod kexec;
pub(super) mod tokio;

use super::cases::{Driven, Peer};
use crate::heap;

/// All peers; the first is what the others are compared with.
pub const ALL: [&dyn Peer; 6] = [
    &Driven::<kexec::with_table::Least>::PEER,
    &Driven::<kexec::bare::Least>::PEER,
    &Driven::<embassy::Embassy>::PEER,
    &Driven::<futures_executor::Pool>::PEER,
    &tokio::CurrentThread,
    &Driven::<async_executor::Local>::PEER,
];

/// The bytes of a task that an executor allocates: what one spawn takes from the heap. The least of
/// several, for some spawns also grow a queue.
fn bytes_of_a_spawn(mut spawn: impl FnMut()) -> u64 {
    (0..16).map(|_| heap::bytes_allocated_by(&mut spawn)).min().unwrap_or_default()
}
