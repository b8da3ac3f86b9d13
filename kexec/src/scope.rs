//! Scopes: tasks that end together, in order.
//!
//! A device owns a scope; a scope owns its tasks, and scopes within it. Closing it cancels and joins its members
//! one after the other, the newest first, as the locals of a function are dropped: what was spawned last may use
//! what was spawned before. A scope that is a member is closed before what is older than it is cancelled.
//!
//! ```text
//!            (1) close: nobody enters       (3) the newest has left: cancel the next
//!     OPEN --------------------> CLOSING ------------+
//!      ^  (2) cancel the newest    |  ^              |
//!      |                           |  +--------------+
//!      +---- (5) reopen --- CLOSED <-- (4) nobody is left: leave the scope around it
//! ```
//!
//! - The closing goes on by itself: each member that leaves cancels the next. Whoever awaits [`close`](Scope::close)
//!   is only told of the end.
//! - A cancelled task is dropped at its next park, unless it is [shielded](crate::shielded). One that does not end
//!   keeps its memory, and those that are older than it: whoever waits goes on waiting, and the task table shows whom
//!   for.
//! - Nothing is hidden in a `Drop`: a handle or a future that is dropped closes nothing.
#![deny(unsafe_code)]

use core::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::Duration,
};

use pin_project::{pin_project, pinned_drop};

use self::members::{Members, Siblings};
#[cfg(feature = "table")]
use crate::task_table::{ScopeHead, ScopeState};
use crate::{
    atomics::{AtomicU32, AtomicWaker, Owned, const_fn},
    executor::close::AlreadyClosing,
    home::Home,
    lock::Lock,
    task::Task,
    task_table::{Kind, Leaf},
    time::{Sleep, sleep},
};

pub(crate) mod members;

/// Members may enter.
const OPEN: u32 = 0;
/// It is being made a member of another scope, and nobody enters until that is done.
const NESTING: u32 = 1;
/// Its members are being cancelled.
const CLOSING: u32 = 2;
/// The scope around it has come to it, and is about to close it; nobody else does until then.
const HELD: u32 = 3;
/// It has no members, and is no member.
const CLOSED: u32 = 4;

/// Tasks that end together, in order.
///
/// [Closing](Self::close) it cancels and joins its members, tasks and other scopes, one after the other and the newest first:
/// what was spawned last may use what was spawned before. A cancelled task is dropped at its next park, or when it comes
/// out of its [shielded](crate::shielded) section. One that does not end keeps its memory, and those that are older than
/// it: whoever closes the scope goes on waiting, and the task table shows whom for. No async work is hidden in a `Drop`.
///
/// It is reached through `&'static` references only: a `static`, or in memory that a device owns. There it is to be
/// closed before the memory is given back, and no call of its methods may be in progress.
///
/// Tasks are spawned into it by way of [`Executor::within`](crate::Executor::within); they may be of several
/// executors.
///
/// ```
/// use kexec::{Budget, Executor, Pool, Scope, irql::Dispatch, platform::mock::{Mock, Plan}, task_size};
///
/// async fn serve(_at: &mut Dispatch, (): ()) {
///     core::future::pending().await
/// }
///
/// async fn remove(_at: &mut Dispatch, device: &'static Scope) {
///     device.close().expect("nobody else closes it").await;
/// }
///
/// static DEVICE: Scope = Scope::new("device");
/// static SERVERS: Pool<{ task_size(&serve) }, 2> = Pool::new();
/// static CONTROL: Pool<{ task_size(&remove) }, 1> = Pool::control();
///
/// let executor = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
/// let device = executor.within(&DEVICE);
/// let receive = device.spawn(&SERVERS, serve, ()).expect("a slot is free");
/// let transmit = device.spawn(&SERVERS, serve, ()).expect("a slot is free");
/// // First `transmit` is cancelled and joined, then `receive`.
/// let removal = executor.spawn(&CONTROL, remove, &DEVICE).expect("a slot is free");
/// executor.settle();
/// assert!(receive.is_finished() && transmit.is_finished() && removal.is_finished());
/// ```
#[repr(C, align(16))]
pub struct Scope {
    /// What the task table shows.
    #[cfg(feature = "table")]
    head: ScopeHead,
    name: &'static str,
    /// Nothing is ordered by it: the members are behind the lock.
    state: AtomicU32,
    members: Lock<Members>,
    /// Its place among the members of the scope around it: behind that one's lock.
    siblings: Owned<Siblings>,
    closer: AtomicWaker,
    /// Whether a future of `close` exists.
    closes: AtomicU32,
}

/// Why a scope was not made a member of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NestError {
    /// The outer scope is closing or closed, or is being nested itself at this moment.
    Closed,
    /// The inner scope has members, is a member already, or is not open.
    InUse,
}

impl fmt::Display for NestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the outer scope is not open: it takes no more members",
            Self::InUse => {
                "the inner scope is in use: it must be open, empty and no member of a scope to become one"
            }
        })
    }
}

impl core::error::Error for NestError {}

/// The scope has not been closed, or not to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotClosed;

impl fmt::Display for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the scope is not closed: await its `close` before opening it again")
    }
}

impl core::error::Error for NotClosed {}

impl Scope {
    const_fn! {
        /// An open scope without members, that the task table shows by this name.
        #[must_use]
        pub fn new(name: &'static str) -> Self {
            Self {
                #[cfg(feature = "table")]
                head: ScopeHead::new(),
                name,
                state: AtomicU32::new(OPEN),
                members: Lock::new(Members::new()),
                siblings: Owned::new(Siblings::NONE),
                closer: AtomicWaker::new(),
                closes: AtomicU32::new(0),
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it is closing or closed. Callable at any level.
    pub fn is_closing(&self) -> bool {
        matches!(self.state.load(Relaxed), CLOSING | HELD | CLOSED)
    }

    /// (1) Closes the scope: refuses new members, cancels those that there are, one after the other and the newest
    /// first, and waits until each has ended, its epilogue included.
    ///
    /// Nothing happens before the first poll. To be awaited in a task (elsewhere only where no CPU that spins for the
    /// scope's lock can preempt the poll, as on a host); a member that awaits it is cancelled with the others. Of a scope
    /// that is closed already, it is ready at once.
    ///
    /// When that has taken ten seconds, twenty, forty, a [warning](mod@crate::trace) says whom it waits for.
    ///
    /// **Cancel-safe:** the closing goes on when the future is dropped; another `close` can wait for it.
    ///
    /// # Errors
    ///
    /// Another future of `close` exists.
    #[track_caller]
    pub fn close(&'static self) -> Result<CloseScope, AlreadyClosing> {
        if self.closes.swap(1, Relaxed) != 0 {
            return Err(AlreadyClosing);
        }
        Ok(CloseScope {
            scope: self,
            leaf: Leaf::new(&CLOSE),
            reminder: sleep(PATIENCE).tolerance(LATE),
            waited: PATIENCE,
        })
    }

    /// (5) Opens a closed scope again, as for the next connection of a device.
    ///
    /// # Errors
    ///
    /// It is not closed.
    pub fn reopen(&self) -> Result<(), NotClosed> {
        match self.state.compare_exchange(CLOSED, OPEN, Relaxed, Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => Err(NotClosed),
        }
    }

    /// Lets a task in whose slot was claimed; false if the scope is not open. The caller is at `DISPATCH_LEVEL`.
    pub(crate) fn enter(&'static self, task: Task) -> bool {
        self.members.with(Home::NONE, |members| {
            let open = self.state.load(Relaxed) == OPEN;
            if open {
                self.show(members);
                members.push(task.into());
            }
            open
        })
    }

    /// What the task table has of it.
    #[cfg(feature = "table")]
    #[must_use]
    pub fn head(&self) -> &ScopeHead {
        &self.head
    }

    /// Tells the task table of the scope, before its first member. The lock is the caller's.
    fn show(&'static self, members: &Members) {
        #[cfg(feature = "table")]
        if members.is_empty() {
            self.head.open(self.name, members.outer.map(|outer| &outer.head));
        }
        #[cfg(not(feature = "table"))]
        let _ = (self, members);
    }

    /// Tells the task table that the scope closes, or is closed.
    fn show_state(&self) {
        #[cfg(feature = "table")]
        self.head.set_state(match self.state.load(Relaxed) {
            CLOSED => ScopeState::Ended,
            _ => ScopeState::Closing,
        });
        #[cfg(not(feature = "table"))]
        let _ = self;
    }

    /// A task leaves whose future is gone, and nothing of it is left to do.
    pub(crate) fn leave(&'static self, task: Task, home: Home) {
        self.after(home, |members| members.remove(task.into()));
    }

    /// A task leaves whose epilogue is still to be called: see [`left`](Self::left).
    pub(crate) fn begin_to_leave(&'static self, task: Task, home: Home) {
        self.members.with(home, |members| {
            members.remove(task.into());
            members.leaving = members.leaving.saturating_add(1);
        });
    }

    /// The epilogue of a task that was leaving has returned.
    pub(crate) fn left(&'static self, home: Home) {
        self.after(home, |members| members.leaving = members.leaving.saturating_sub(1));
    }

    /// Makes `inner` the newest member of this scope. The caller is at `DISPATCH_LEVEL`.
    pub(crate) fn nest(&'static self, inner: &'static Self) -> Result<(), NestError> {
        // While it is nesting, nobody enters `inner`: two scopes cannot become members of each other.
        if inner.state.compare_exchange(OPEN, NESTING, Relaxed, Relaxed).is_err() {
            return Err(NestError::InUse);
        }
        let nested = self.nest_empty(inner);
        inner.state.store(OPEN, Relaxed);
        if nested.is_ok() {
            // A close of this scope that has come to `inner` in the meantime could not begin with it.
            self.advance(Home::NONE);
        }
        nested
    }

    fn nest_empty(&'static self, inner: &'static Self) -> Result<(), NestError> {
        if !inner.members.with(Home::NONE, |members| members.adopt(self)) {
            return Err(NestError::InUse);
        }
        let entered = self.members.with(Home::NONE, |members| {
            let open = self.state.load(Relaxed) == OPEN;
            if open {
                self.show(members);
                members.push(inner.into());
            }
            open
        });
        if entered {
            return Ok(());
        }
        inner.members.with(Home::NONE, |members| members.outer = None);
        Err(NestError::Closed)
    }

    /// Begins to close from outside, with the lock of the scope around it held: until the state is `CLOSING` the scope
    /// cannot end, and so does not go away. False if it is not open.
    fn hold(&self) -> bool {
        self.state.compare_exchange(OPEN, HELD, Relaxed, Relaxed).is_ok()
    }

    /// Begins to close; false if that has begun already, or cannot begin now.
    fn begin_to_close(&self) -> bool {
        let begun = self.state.compare_exchange(OPEN, CLOSING, Relaxed, Relaxed).is_ok();
        if begun {
            self.show_state();
        }
        begun
    }
}

static CLOSE: Kind = Kind::new("scope to close");

/// How long a close waits before it is told whom for; then twice as long, and so on.
const PATIENCE: Duration = Duration::from_secs(10);
/// A message is in no hurry.
const LATE: Duration = Duration::from_secs(1);

/// The future of [`Scope::close`].
#[pin_project(PinnedDrop)]
#[must_use = "nothing is closed before the first poll"]
pub struct CloseScope {
    scope: &'static Scope,
    leaf: Leaf,
    #[pin]
    reminder: Sleep,
    waited: Duration,
}

impl Future for CloseScope {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let (scope, home) = (*this.scope, Home::of(cx));
        scope.closer.register(cx.waker());
        if scope.begin_to_close() {
            scope.advance(home);
        }
        // The lock, for whoever ends the scope still has it when the state says so.
        match scope.members.with(home, |_| scope.state.load(Relaxed)) {
            CLOSED => {
                scope.closer.take();
                return Poll::Ready(());
            }
            CLOSING | HELD => {}
            // It is being nested just now: look again.
            _ => cx.waker().wake_by_ref(),
        }
        // Only a task has a clock.
        while home.core().is_some() && this.reminder.as_mut().poll(cx).is_ready() {
            let (name, whom) = (scope.name, scope.members.with(home, |members| members.waits_for()));
            crate::warn!("scope {name}: closing for {:?}, and waits for {whom}", this.waited);
            this.reminder.set(sleep(*this.waited).tolerance(LATE));
            *this.waited = this.waited.saturating_mul(2);
        }
        this.leaf.park(cx);
        Poll::Pending
    }
}

#[pinned_drop]
impl PinnedDrop for CloseScope {
    fn drop(self: Pin<&mut Self>) {
        self.scope.closer.take();
        self.scope.closes.store(0, Relaxed);
    }
}

impl fmt::Debug for CloseScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloseScope").field("scope", self.scope).finish_non_exhaustive()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state.load(Relaxed) {
            OPEN => "open",
            NESTING => "nesting",
            CLOSING | HELD => "closing",
            _ => "closed",
        };
        f.debug_struct("Scope").field("name", &self.name).field("state", &state).finish_non_exhaustive()
    }
}
