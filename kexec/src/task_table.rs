//! The task table: where every task is parked, for a person, a debugger and a test.
//!
//! A leaf future is one that waits for something itself, and not for another future. Each leaf of this crate
//! notes in its task's record, whenever it parks, what [kind](Kind) it is and where in the source it was made;
//! [`label`](Label::label) adds what the step is about. A driver's own leaves do the same with a [`Leaf`].
//!
//! The records are in the slots, so that a [store](crate::Store) is its own table: its head says where in each slot the
//! record is, and of which build of which image the texts are. Three forms of it hold the same words:
//!
//! - the store itself, asked while it lives: [`Table::tasks`](crate::Table::tasks), and [`Tree`] to print it;
//! - any copy of memory in which it is in one piece: what a debugger's `.writemem` has written, a dump of virtual memory (in
//!   one of physical memory, the pages of a large store are apart);
//! - the compact copy that [`Table::save`](crate::Table::save) makes, in a bugcheck callback for example.
//!
//! [`read`] finds the last two in a file. Texts are kept as distances within the image, so that the file of that image
//! has to be there as well, and its [`BuildId`] must be the table's. `cargo xtask tasks FILE` does all of that.
//!
//! ```
//! use kexec::{Budget, Executor, Pool, platform::polling::Polling, task_table::{Label, Tree}};
//!
//! static POOL: Pool<64, 4> = Pool::new();
//! static EXECUTOR: Executor<Polling> = Executor::named("disk 0", Polling::new(), Budget::DEFAULT);
//!
//! let reset = || async { core::future::pending::<()>().label("backend to be Closed").await };
//! EXECUTOR.spawn_with(&POOL, reset).expect("the pool has room").detach();
//! EXECUTOR.try_run(&mut ());
//!
//! let row = POOL.as_table().tasks().next().expect("a slot is in use");
//! assert_eq!((row.executor.name, row.label), ("disk 0", Some("backend to be Closed")));
//! println!("{}", Tree::of(POOL.as_table().tasks()));
//! ```
//!
//! With the feature `table` off, labels and leaves are nothing, and the rest is not there.
//!
//! In reading order: [`Kind`], [`Leaf`] and [`Label`], what a future says; `anchor` and `record`, how it is kept; `head`,
//! the beginning of a table; `scope`, that of a scope; [`Row`], what it means; [`Tasks`] and [`read`], from where it is
//! read; [`Tree`], how it is shown.

#![forbid(unsafe_code)]

mod label;
mod leaf;

pub use label::{Label, Labelled};
pub use leaf::{Kind, Leaf};

#[cfg(feature = "table")]
pub(crate) mod anchor;
#[cfg(feature = "table")]
mod build_id;
#[cfg(feature = "table")]
pub(crate) mod head;
#[cfg(feature = "table")]
mod live;
#[cfg(feature = "table")]
pub mod read;
#[cfg(feature = "table")]
pub(crate) mod record;
#[cfg(feature = "table")]
mod row;
#[cfg(feature = "table")]
mod scope;
#[cfg(feature = "table")]
mod tree;

#[cfg(feature = "table")]
pub use {
    anchor::set_build_id,
    build_id::BuildId,
    live::{SaveError, Tasks},
    row::{Group, LOST, Place, Row, State, UNLABELLED},
    scope::{Scope, ScopeHead, ScopeState},
    tree::Tree,
};
