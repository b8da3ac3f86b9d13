//! A small async executor for kernels.
//!
//! In a driver, a handshake or a ring is a state machine spread over interrupts, DPCs and threads. Here it is
//! an `async fn`, and what runs it is a queue without a thread: a wake pushes a task and, if nobody is at
//! work, asks the platform to [`ring`](platform::Platform::ring); what answers the doorbell calls
//! [`try_run`](Executor::try_run). On Windows that is a DPC; in a crash dump, a loop; in a test, a mock.
//!
//! - A wake may come from any CPU at any IRQL. It takes no lock and allocates nothing.
//! - A run ends: at its budget of polls or time it hands its role back and rings itself.
//! - Tasks live in [`Pool`]s and [`Table`]s of slots; nothing is allocated after those.
//! - What may be done at which IRQL is a [type](irql).
//!
//! ```
//! use kexec::{
//!     Budget, Executor, Pool,
//!     irql::Dispatch,
//!     platform::thread::{Thread, passive},
//!     task_size,
//! };
//!
//! async fn square(_at: &mut Dispatch, side: u64) -> u64 {
//!     kexec::yield_now().await;
//!     side * side
//! }
//!
//! static SQUARES: Pool<{ task_size(&square) }, 4> = Pool::new();
//! static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
//!
//! EXECUTOR.start().expect("this is the first start");
//! let handle = EXECUTOR.spawn(&SQUARES, square, 12).expect("the pool has room");
//! assert_eq!(pollster::block_on(handle), Ok(144));
//!
//! let closed = pollster::block_on(EXECUTOR.close().expect("nobody else closes it"));
//! passive(|passive| closed.silence(passive));
//! ```
//!
//! The modules, in reading order:
//!
//! - [`irql`], the tokens; [`platform`], what is asked of a system, and the mock;
//! - `executor`, the queue, the run and the timers; `task`, slots, states and wakers; `home` and `lock`, what futures
//!   reach of the executor that polls them;
//! - `scope` and `shield`, how tasks end: [`Scope`], [`shielded`]; `passive`, work below their level: [`PassiveWork`];
//! - [`time`], what waits for a time; [`sync`], what waits for others; [`crash`], the loop that waits for a task;
//! - [`task_table`], where every task waits; [`trace`](mod@trace), what happens, as it happens;
//! - `testing` (feature `std`), every fault at every poll boundary.
//!
//! The crate's README shows how to write a platform and a test, which test shows which promise, and what each promise
//! costs.
#![no_std]
#![deny(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic in a kernel is a bugcheck"
)]

#[cfg(any(feature = "std", test, loom))]
extern crate std;

#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;

mod atomics;
pub mod crash;
mod exchange;
mod executor;
mod home;
pub mod irql;
mod lock;
mod passive;
pub mod platform;
#[cfg(all(doctest, feature = "std"))]
mod rules;
mod running;
mod scope;
mod shield;
pub mod sync;
mod task;
pub mod task_table;
#[cfg(all(feature = "std", feature = "table"))]
pub mod testing;
pub mod time;
pub mod trace;
mod yield_now;

pub use executor::{
    Budget, End, Executor, Run, Stats,
    close::{AlreadyClosing, Close, Closed, Rundown},
    spawn::{SpawnError, Spawner, request_size, task_size},
};
pub use passive::{PassiveWork, RunPassive, passive_size};
pub use scope::{CloseScope, NestError, NotClosed, Scope};
pub use shield::{Shielded, UntilAsked, UntilCancelled, cancelled, shielded, until_cancelled};
pub use task::{
    body::Cancelled,
    handle::JoinHandle,
    store::{Lane, Pool, Slot, Store, Table, TableError, Vacancy},
    waker::TaskRef,
};
pub use yield_now::{YieldNow, yield_now};
