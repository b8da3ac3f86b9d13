//! The beginning of a task: a slot is claimed, counted, filled and pushed.
#![expect(unsafe_code, reason = "a claimed slot is filled with what its size was checked for")]

#[cfg(feature = "table")]
use core::panic::Location;
use core::{any::type_name, fmt, future::Future, ptr::NonNull};

use super::{Core, Executor};
#[cfg(feature = "table")]
use crate::task_table::record::{Origin, Record};
use crate::{
    irql::Level,
    platform::{AnyFuture, Platform},
    scope::{NestError, Scope},
    task::{
        body::{Body, Cancelled, Ending, Epilogue, Join, Turns},
        handle::{JOIN, JoinHandle},
        store::{ALIGN, Claimed, Table},
        waker::TaskRef,
    },
    task_table::Leaf,
};

/// A task that was not spawned, given back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SpawnError<T> {
    /// Every slot of the store is taken (or has a late wake queued on another executor that shares the store).
    Full(T),
    /// The executor or the scope is closing or closed.
    Closed(T),
}

impl<T> SpawnError<T> {
    /// What was to be spawned.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(task) | Self::Closed(task) => task,
        }
    }
}

impl<T> fmt::Display for SpawnError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => {
                "no slot is free; wait for a task of this store to end, or make the store larger"
            }
            Self::Closed(_) => "the executor or the scope takes no more tasks, because it is being closed",
        })
    }
}

impl<T> fmt::Debug for SpawnError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        })
    }
}

impl<T> core::error::Error for SpawnError<T> {}

/// Why a slot was not to be had.
enum Refusal {
    Full,
    Closed,
}

impl Refusal {
    fn of<T>(self, task: T) -> SpawnError<T> {
        match self {
            Self::Full => SpawnError::Full(task),
            Self::Closed => SpawnError::Closed(task),
        }
    }
}

/// Where tasks are spawned: on an executor, and perhaps into a [scope](Scope).
///
/// Made by [`Executor::within`]; an [`Executor`] has the same four ways to spawn, without a scope.
pub struct Spawner<P: Platform> {
    executor: &'static Executor<P>,
    scope: Option<&'static Scope>,
}

impl<P: Platform> Clone for Spawner<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Spawner<P> {}

impl<P: Platform> fmt::Debug for Spawner<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").field("executor", self.executor).field("scope", &self.scope).finish()
    }
}

impl<P: Platform> Executor<P> {
    /// Spawns into a scope: up to `DISPATCH_LEVEL`.
    #[must_use]
    pub fn within(&'static self, scope: &'static Scope) -> Spawner<P> {
        Spawner { executor: self, scope: Some(scope) }
    }

    #[inline]
    fn alone(&'static self) -> Spawner<P> {
        Spawner { executor: self, scope: None }
    }
}

/// Spawning into a scope. Callable from any CPU, up to `DISPATCH_LEVEL`; else as on an [`Executor`].
impl<P: Platform> Spawner<P> {
    /// [`Executor::spawn`], into the scope.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], with everything in it; [`Closed`](SpawnError::Closed) if the executor or the scope is closing.
    #[track_caller]
    pub fn spawn<const S: usize, A, T, F>(
        self,
        store: &'static Table<S>,
        task: F,
        argument: A,
    ) -> Result<JoinHandle<T>, SpawnError<(F, A)>>
    where
        P: AnyFuture,
        A: Send + 'static,
        T: Send + 'static,
        F: AsyncFnOnce(&mut P::Level, A) -> T + Send + 'static,
    {
        match self.claim(store, true) {
            Err(refusal) => Err(refusal.of((task, argument))),
            // SAFETY: the slot was claimed so.
            Ok(slot) => Ok(unsafe {
                self.launch_joinable::<S, T, _, _>(slot, type_name::<F>(), move || lend(task, argument))
            }),
        }
    }

    /// [`Executor::spawn_with`], into the scope.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], with everything in it; [`Closed`](SpawnError::Closed) if the executor or the scope is closing.
    #[track_caller]
    pub fn spawn_with<const S: usize, B, F>(
        self,
        store: &'static Table<S>,
        build: B,
    ) -> Result<JoinHandle<F::Output>, SpawnError<B>>
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        match self.claim(store, true) {
            Err(refusal) => Err(refusal.of(build)),
            // SAFETY: the slot was claimed so.
            Ok(slot) => Ok(unsafe { self.launch_joinable::<S, _, _, _>(slot, type_name::<F>(), build) }),
        }
    }

    /// [`Executor::submit`], into the scope.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], with everything in it; [`Closed`](SpawnError::Closed) if the executor or the scope is closing.
    #[track_caller]
    pub fn submit<const S: usize, A, T, F, E>(
        self,
        store: &'static Table<S>,
        task: F,
        argument: A,
        epilogue: E,
    ) -> Result<TaskRef, SpawnError<(F, A, E)>>
    where
        P: AnyFuture,
        A: Send + 'static,
        T: 'static,
        F: AsyncFnOnce(&mut P::Level, A) -> T + Send + 'static,
        E: FnOnce(&mut P::Level, Result<T, Cancelled>) + Send + 'static,
    {
        match self.claim(store, false) {
            Err(refusal) => Err(refusal.of((task, argument, epilogue))),
            Ok(slot) => {
                let place = slot.task;
                // SAFETY: the slot was claimed so.
                let generation = unsafe {
                    self.launch::<S, _, _, _>(
                        slot,
                        type_name::<F>(),
                        move || lend(task, argument),
                        Epilogue(epilogue),
                    )
                };
                Ok(TaskRef::new(place, generation))
            }
        }
    }

    /// [`Executor::submit_with`], into the scope.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], with everything in it; [`Closed`](SpawnError::Closed) if the executor or the scope is closing.
    #[track_caller]
    pub fn submit_with<const S: usize, B, F, E>(
        self,
        store: &'static Table<S>,
        build: B,
        epilogue: E,
    ) -> Result<TaskRef, SpawnError<(B, E)>>
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output: 'static> + Send + 'static,
        E: FnOnce(&mut P::Level, Result<F::Output, Cancelled>) + Send + 'static,
    {
        match self.claim(store, false) {
            Err(refusal) => Err(refusal.of((build, epilogue))),
            Ok(slot) => {
                let place = slot.task;
                // SAFETY: the slot was claimed so.
                let generation =
                    unsafe { self.launch::<S, _, _, _>(slot, type_name::<F>(), build, Epilogue(epilogue)) };
                Ok(TaskRef::new(place, generation))
            }
        }
    }

    /// Makes `inner` the newest member of the scope, so that it is closed before what is in the scope already.
    /// Returns the way to spawn into `inner`.
    ///
    /// It is a member until it has been closed, by itself or with the scope around it.
    ///
    /// # Errors
    ///
    /// See [`NestError`]; nothing has changed.
    pub fn nest(self, inner: &'static Scope) -> Result<Self, NestError> {
        if let Some(outer) = self.scope {
            let _restore = self.executor.platform.raise();
            outer.nest(inner)?;
        }
        Ok(Self { scope: Some(inner), ..self })
    }

    /// Claims a slot and counts its tenant.
    #[inline]
    fn claim<const S: usize>(self, store: &'static Table<S>, handle: bool) -> Result<Claimed, Refusal> {
        let Self { executor, scope } = self;
        let core = NonNull::from(executor).cast();
        let slot = store.claim(core, handle).ok_or(Refusal::Full)?;
        if !executor.core.live.enter() {
            slot.give_back();
            return Err(Refusal::Closed);
        }
        // SAFETY: the slot was claimed just now.
        unsafe { slot.task.set_scope(scope) };
        if let Some(scope) = scope {
            let _restore = executor.platform.raise();
            if !scope.enter(slot.task) {
                slot.give_back();
                if executor.core.live.leave() {
                    // SAFETY: the pointer is to all of the executor, which waits for this call.
                    unsafe { Core::wake_janitor(core) };
                }
                return Err(Refusal::Closed);
            }
        }
        Ok(slot)
    }

    /// # Safety
    ///
    /// The slot was claimed here, with a handle, from a store of slots of `S` bytes.
    #[inline]
    #[track_caller]
    unsafe fn launch_joinable<const S: usize, T, B, F>(
        self,
        slot: Claimed,
        name: &'static str,
        build: B,
    ) -> JoinHandle<T>
    where
        B: FnOnce() -> F,
        F: Future<Output = T>,
    {
        let task = slot.task;
        // SAFETY: passed on.
        let generation = unsafe { self.launch::<S, _, _, _>(slot, name, build, Join) };
        // SAFETY: the caller asked for a handle, and the output is a `T`.
        unsafe { JoinHandle::new(task, generation, Leaf::new(&JOIN)) }
    }

    /// Fills a claimed slot and queues it. Returns its tenant's generation.
    ///
    /// # Safety
    ///
    /// The slot was claimed here, from a store of slots of `S` bytes, with a handle if the ending is [`Join`].
    #[inline]
    #[track_caller]
    unsafe fn launch<const S: usize, B, F, E>(
        self,
        slot: Claimed,
        name: &'static str,
        build: B,
        ending: E,
    ) -> u64
    where
        B: FnOnce() -> F,
        F: Future,
        E: Ending<P, F::Output>,
    {
        const {
            assert!(
                size_of::<Body<B, F, F::Output, E>>() <= S,
                "the task is larger than a slot of its store: see `task_size` and `request_size`"
            );
            assert!(align_of::<Body<B, F, F::Output, E>>() <= ALIGN, "tasks are aligned to 16 bytes at most");
        }
        let executor = NonNull::from(self.executor).cast();
        #[cfg(feature = "table")]
        Record::start(
            slot.task.header(),
            &Origin {
                name,
                site: Location::caller(),
                executor,
                executor_name: self.executor.name(),
                scope: self.scope.map(Scope::head),
            },
        );
        #[cfg(not(feature = "table"))]
        let _ = name;
        let fill = |task| {
            // SAFETY: the slot was claimed; its size and alignment have just been checked.
            unsafe { Turns::<P, B, F, E>::fill(task, build, ending) }
        };
        // SAFETY: the pointer is to all of this executor, which has counted the tenant.
        unsafe { slot.move_in(executor, Turns::<P, B, F, E>::BUILD, fill) }
    }
}

/// Spawning. Callable from any CPU and at any level; the closure or function, its argument and its output
/// cross over to the run, the future never does.
///
/// A task that is larger than its slot does not compile.
impl<P: Platform> Executor<P> {
    /// Spawns an `async fn` or async closure, which is lent the token of the level at which it is polled.
    ///
    /// It may not be kept: a task cannot let its token go elsewhere,
    ///
    /// ```compile_fail
    /// # use kexec::{Budget, Executor, Pool, irql::Dispatch, platform::AnyFuture};
    /// # static POOL: Pool<64, 1> = Pool::new();
    /// fn leak(executor: &'static Executor<impl AnyFuture<Level = Dispatch>>, keep: fn(&'static mut Dispatch)) {
    ///     executor.spawn(&POOL, async move |token: &mut Dispatch, ()| keep(token), ());
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SpawnError`], with the function and its argument in it.
    #[track_caller]
    pub fn spawn<const S: usize, A, T, F>(
        &'static self,
        store: &'static Table<S>,
        task: F,
        argument: A,
    ) -> Result<JoinHandle<T>, SpawnError<(F, A)>>
    where
        P: AnyFuture,
        A: Send + 'static,
        T: Send + 'static,
        F: AsyncFnOnce(&mut P::Level, A) -> T + Send + 'static,
    {
        self.alone().spawn(store, task, argument)
    }

    /// Spawns the `Send` future that `build` returns, on any platform.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], with the closure in it.
    #[track_caller]
    pub fn spawn_with<const S: usize, B, F>(
        &'static self,
        store: &'static Table<S>,
        build: B,
    ) -> Result<JoinHandle<F::Output>, SpawnError<B>>
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.alone().spawn_with(store, build)
    }

    /// Spawns an `async fn` whose outcome goes to `epilogue`: what a request is served by.
    ///
    /// When the task is ready or cancelled, its output is moved to the run's stack, the future dropped and the
    /// slot freed; only then is `epilogue` called, and only after it has returned is the task no longer
    /// counted. So `epilogue` may complete the request as its last touch: nothing of the task is in memory that the
    /// completion gives away, if none was put there.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], with the function, its argument and the epilogue in it.
    #[track_caller]
    pub fn submit<const S: usize, A, T, F, E>(
        &'static self,
        store: &'static Table<S>,
        task: F,
        argument: A,
        epilogue: E,
    ) -> Result<TaskRef, SpawnError<(F, A, E)>>
    where
        P: AnyFuture,
        A: Send + 'static,
        T: 'static,
        F: AsyncFnOnce(&mut P::Level, A) -> T + Send + 'static,
        E: FnOnce(&mut P::Level, Result<T, Cancelled>) + Send + 'static,
    {
        self.alone().submit(store, task, argument, epilogue)
    }

    /// Spawns the `Send` future that `build` returns, whose outcome goes to `epilogue`: see [`submit`](Self::submit).
    ///
    /// # Errors
    ///
    /// [`SpawnError`], with the closure and the epilogue in it.
    #[track_caller]
    pub fn submit_with<const S: usize, B, F, E>(
        &'static self,
        store: &'static Table<S>,
        build: B,
        epilogue: E,
    ) -> Result<TaskRef, SpawnError<(B, E)>>
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output: 'static> + Send + 'static,
        E: FnOnce(&mut P::Level, Result<F::Output, Cancelled>) + Send + 'static,
    {
        self.alone().submit_with(store, build, epilogue)
    }
}

/// Lends a task the token of its level.
async fn lend<L: Level, A, T, F: AsyncFnOnce(&mut L, A) -> T>(task: F, argument: A) -> T {
    // SAFETY: this is polled by a run only, whose caller is at the level, and the token dies with the task.
    let mut level = unsafe { L::assume() };
    task(&mut level, argument).await
}

/// The size in bytes of a slot for [`spawn`](Executor::spawn)ing this `async fn`.
#[must_use]
pub const fn task_size<L: Level, A, T, F>(_: &F) -> usize
where
    F: AsyncFnOnce(&mut L, A) -> T,
{
    let stages = max(output_size(&lend::<L, A, T, F>), max(size_of::<(F, A)>(), size_of::<T>()));
    stages.next_multiple_of(ALIGN)
}

/// The size in bytes of a slot for [`submit`](Executor::submit)ting this `async fn` with an epilogue of up to
/// `epilogue` bytes: what its closure captures.
#[must_use]
pub const fn request_size<L: Level, A, T, F>(task: &F, epilogue: usize) -> usize
where
    F: AsyncFnOnce(&mut L, A) -> T,
{
    task_size(task).saturating_add(epilogue).next_multiple_of(ALIGN)
}

const fn output_size<F: FnOnce(A, B) -> R, A, B, R>(_: &F) -> usize {
    size_of::<R>()
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}
