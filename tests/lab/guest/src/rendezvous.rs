//! All virtual CPUs meet, so that one of them can suspend the guest.
//!
//! ```text
//!  who holds                 every other, between two runs of its executor
//!  hold      Come ─ rings ─▶ comes, and takes orders until it may go
//!  silence   Hush ─────────▶ turns interrupts off
//!            Work ─────────▶ does it, with its number: as often as it is asked to
//!            Speak ────────▶ looks at its timers anew, turns interrupts on
//!            Go ───────────▶ goes on
//! ```
//!
//! An order is given when all have done the one before, and each answers by its bit. So there is one order at a time,
//! nobody is left behind in an old one, and whoever waits knows for whom.
//!
//! # Why that is what [`Rendezvous`] promises
//!
//! - **Between two runs**: the loop of [`hlt::run`](crate::hlt::run) attends, and nothing else does. There no task is in
//!   the middle of a poll, and nobody has a spin lock. The one that holds is called there, too.
//! - **All come**: a run ends at its budget, whoever is rung goes round its loop, and no interrupt's handler waits for
//!   anybody. A poll that does not end is found by [`PATIENCE`], and told.
//! - **Interrupts are off everywhere**: each turns them off where it waits for orders, which needs none. An interrupt
//!   that comes meanwhile stays with the APIC, or in the page that is shared with Xen.
//! - **Nothing else runs**: the others spin in [`attend`] until they may go. Xen may stop a virtual CPU there, save it, and
//!   have it go on on another host: it reads the next order, which is memory.
//!
//! # What is different afterwards
//!
//! Xen saves each virtual CPU with its registers, its segments' bases and its local APIC, whose timer it starts anew
//! with all of its time (`lapic_rearm`, `xen/arch/x86/hvm/vlapic.c`). So every alarm is taken to have gone off, and is
//! set anew by the run that follows. The time stamp counter goes on from where it was saved, after a cancelled suspend
//! from where it is; the clock stands still in either case.
#![expect(unsafe_code, reason = "interrupts are turned off, and work is lent to other processors")]

use core::{
    hint, ptr,
    sync::atomic::{
        AtomicPtr, AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use kexec::{
    irql::Dispatch,
    sync::{
        SpinLock,
        oneshot::{OneShot, Sender},
    },
};
use xenbus::suspend::{Rendezvous, SuspendError, Suspended};

use crate::{
    hlt::CLOCK,
    interrupts, report,
    smp::{NUMBERS, executor, number, running},
    stall,
};

/// All virtual CPUs that have begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllCpus;

/// How long all may take to do as they are told: several times what a run may take, and what Xen may let one wait for
/// a processor.
const PATIENCE: Duration = Duration::from_secs(10);

/// The last order, and how many there have been: `count << KIND | kind`.
static ORDER: AtomicU32 = AtomicU32::new(GO);
const KIND: u32 = 3;
const GO: u32 = 0;
const COME: u32 = 1;
const HUSH: u32 = 2;
const WORK: u32 = 3;
const SPEAK: u32 = 4;

/// A bit for each of the others that has done it.
static DONE: AtomicU32 = AtomicU32::new(0);

/// What is to be done at [`WORK`].
static JOB: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
type Job<'a> = &'a (dyn Fn(u32) + Sync);

type Outcome = Result<Suspended, SuspendError>;
static OUTCOME: OneShot<Outcome> = OneShot::new();
/// Who wants the guest to be suspended.
static REQUEST: SpinLock<Option<Sender<'static, Outcome>>> = SpinLock::new(None);

/// Has virtual CPU 0 suspend the guest, and waits for what comes of it. For a task, on any of them.
///
/// **Cancel-safe:** nothing is lost but the outcome.
pub(crate) async fn suspended(at: &Dispatch) -> Outcome {
    let Some((reply, outcome)) = OUTCOME.claim() else { return Err(SuspendError::Running) };
    *REQUEST.lock(at) = Some(reply);
    executor(0).platform().call();
    // Nobody drops the other end.
    outcome.await.unwrap_or(Err(SuspendError::Running))
}

/// Does what was asked for by [`suspended`]. By virtual CPU 0, between two runs.
pub(crate) fn serve(at: &Dispatch, suspend: impl FnOnce() -> Outcome) {
    let request = REQUEST.lock(at).take();
    if let Some(reply) = request {
        // Who has asked may be gone.
        let _ = reply.send(suspend());
    }
}

/// Takes orders, if somebody holds. By another virtual CPU, between two runs.
pub(crate) fn attend(_: &Dispatch, number: usize) {
    let mut last = ORDER.load(Acquire);
    if kind(last) != COME {
        return;
    }
    done(number);
    while kind(last) != GO {
        let order = ORDER.load(Acquire);
        if order == last {
            hint::spin_loop();
            continue;
        }
        match kind(order) {
            // SAFETY: nothing is waited for but orders.
            HUSH => unsafe { interrupts::off() },
            WORK => {
                // SAFETY: who holds has put it there, and waits for the answer.
                let job = unsafe { &*JOB.load(Relaxed).cast::<Job<'_>>() };
                job(NUMBERS[number]);
            }
            SPEAK => {
                executor(number).platform().go_off();
                // SAFETY: they were on before.
                unsafe { interrupts::on() };
            }
            _ => {}
        }
        done(number);
        last = order;
    }
}

fn done(number: usize) {
    DONE.fetch_or(1 << number, Release);
}

const fn kind(order: u32) -> u32 {
    order % (1 << KIND)
}

/// Gives an order, and waits until the others have done it.
fn order(kind: u32) {
    let others = running().iter().filter(|other| **other as usize != number());
    let all = others.clone().fold(0, |all, other| all | 1 << other);
    let count = (ORDER.load(Relaxed) >> KIND).wrapping_add(1);
    DONE.store(0, Relaxed);
    ORDER.store(count << KIND | kind, Release);
    if kind == COME {
        others.for_each(|other| executor(*other as usize).platform().call());
    }
    let is_late = CLOCK.limit(PATIENCE);
    loop {
        let missing = all & !DONE.load(Acquire);
        if missing == 0 {
            return;
        }
        if is_late() {
            let other = missing.trailing_zeros();
            stall::tell_of(other as usize);
            report::crash(format_args!("virtual CPU {other} has not done order {kind} of the rendezvous"));
        }
        hint::spin_loop();
    }
}

impl Rendezvous for AllCpus {
    /// By one at a time, as [`Suspend`](xenbus::suspend::Suspend) does.
    fn hold<T>(&self, _: &Dispatch, work: impl FnOnce() -> T) -> T {
        order(COME);
        let outcome = work();
        order(GO);
        outcome
    }

    fn silence<T>(&self, _: &Dispatch, work: impl FnOnce() -> T) -> T {
        order(HUSH);
        // SAFETY: nothing is waited for but answers, which the others give without an interrupt.
        unsafe { interrupts::off() };
        let before = CLOCK.now();
        let outcome = work();
        CLOCK.go_on_from(before);
        executor(number()).platform().go_off();
        order(SPEAK);
        // SAFETY: they were on before.
        unsafe { interrupts::on() };
        outcome
    }

    fn on_each_cpu(&self, work: Job<'_>) {
        JOB.store((&raw const work).cast_mut().cast(), Relaxed);
        order(WORK);
        work(NUMBERS[number()]);
    }
}
