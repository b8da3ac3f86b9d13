//! The machine: driver images in this process, and calls into their code that stop wherever someone outside must act.
//!
//! It knows x86-64, PE and stacks, and nothing of NT or Xen. Driver code runs natively, at fixed addresses, on a stack
//! of its own; each import that it calls and each privileged instruction is a [`Yield`] to the host, which answers at
//! its leisure with a [`Resume`]. Between two yields only that code runs, so whoever decides which [`Activation`] to
//! resume next decides the whole schedule.
//!
//! ```text
//!   Image::load ── pe: layout, relocations, imports ── scan: what must trap ── mapping: at a fixed address
//!   Activation  ── trampoline, signal: in and out ── trap: what an exception means ── unwind: could the kernel?
//! ```
//!
//! A hypercall page is filled by the host, for which a write of its register is a [`Trap::Wrmsr`]. It is not called: images of
//! ours use VMCALL and VMMCALL.
//!
//! **What it is not.** Code that is loaded here runs with all rights of the process: guard pages and protections catch a
//! driver's mistakes, not its malice. Load nothing but what you have built. Atomic instructions are sequentially
//! consistent with everything, as there is one processor; addresses are those of user space.
#![expect(
    clippy::cast_possible_truncation,
    reason = "instructions use parts of registers, and on the one target of this module an address is a `usize`"
)]

use std::{
    cell::{Cell, Ref, RefCell},
    collections::BTreeSet,
    fmt,
    rc::Rc,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
};

use self::{gs::GsBase, image::Loaded, signal::Signals, trampoline::GATE};

mod activation;
mod context;
mod gs;
mod image;
mod mapping;
mod pe;
mod scan;
mod signal;
mod stack;
mod symbols;
mod trampoline;
mod trap;
mod unwind;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use self::{
    activation::{Activation, Arguments, Resume, Yield},
    context::Registers,
    image::{
        Binding, IMAGE_BASE, IMAGE_STRIDE, Image, LoadError, LoadOptions, Native, NotInImage, Patch, Preempt,
        Section,
    },
    stack::KernelStack,
    trap::{Fault, FaultKind, Hypercall, Trap},
    unwind::UnwindError,
};

/// The addresses, the signals and the gate are the process's: one machine at a time.
static CLAIM: Mutex<()> = Mutex::new(());

/// The right to run driver code in this process. It lasts as long as a clone of this, an [`Image`], a [`KernelStack`] or
/// an [`Activation`] does.
#[derive(Clone)]
pub struct Machine(Rc<Claim>);

struct Claim {
    gs: GsBase,
    images: RefCell<Vec<Rc<Loaded>>>,
    free_stacks: RefCell<BTreeSet<u64>>,
    stacks: Cell<u64>,
    /// Before the lock, so that the handler is gone when another thread installs its own.
    _signals: Signals,
    _lock: MutexGuard<'static, ()>,
}

impl Machine {
    /// Claims the machine; waits while another thread has it.
    ///
    /// # Panics
    ///
    /// This thread has it already, and would wait for itself.
    #[must_use]
    pub fn claim() -> Self {
        let thread = signal::current_thread();
        assert_ne!(
            GATE.thread.load(Relaxed),
            thread,
            "this thread has claimed the machine already: drop all that came from that claim, or clone it"
        );
        let lock = CLAIM.lock().unwrap_or_else(PoisonError::into_inner);
        GATE.thread.store(thread, Relaxed);
        stack::clear();
        Self(Rc::new(Claim {
            gs: GsBase::detect(),
            images: RefCell::default(),
            free_stacks: RefCell::default(),
            stacks: Cell::new(0),
            _signals: Signals::install(),
            _lock: lock,
        }))
    }

    /// The free stack with the lowest address, so that addresses depend on the run and on nothing else.
    #[must_use]
    pub fn stack(&self) -> KernelStack {
        let free = self.0.free_stacks.borrow_mut().pop_first();
        let slot = free.unwrap_or_else(|| {
            let next = self.0.stacks.get();
            self.0.stacks.set(next + 1);
            next
        });
        KernelStack::new(self.clone(), slot)
    }

    /// `xenbus.sys+0x1a2b`, with the function's name where it is known; the bare address if it is no image's.
    #[must_use]
    pub fn place(&self, address: u64) -> String {
        image::place(&self.images(), address)
    }

    fn give_back(&self, slot: u64) {
        self.0.free_stacks.borrow_mut().insert(slot);
    }

    fn add(&self, image: Rc<Loaded>) {
        self.0.images.borrow_mut().push(image);
    }

    fn remove(&self, image: &Rc<Loaded>) {
        self.0.images.borrow_mut().retain(|other| !Rc::ptr_eq(other, image));
    }

    fn images(&self) -> Ref<'_, Vec<Rc<Loaded>>> {
        self.0.images.borrow()
    }

    fn gs_base(&self) -> GsBase {
        self.0.gs
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        GATE.thread.store(0, Relaxed);
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("images", &self.images().len()).finish_non_exhaustive()
    }
}
