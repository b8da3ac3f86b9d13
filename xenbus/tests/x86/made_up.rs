//! Processors that are made up, with a Xen below them as far as finding it goes.
#![expect(unsafe_code, reason = "a page that Xen writes to")]

use std::{cell::UnsafeCell, collections::BTreeMap, ptr::NonNull, sync::Mutex};

use xen_abi::{
    cpuid,
    hypercall::ENTRY_SIZE,
    seam::{Access, Gfn, Mapped, PAGE_SIZE, Port, Processor},
};

/// Where the page lies that can be lent.
pub(crate) const FRAME: u64 = 0x000F_EDCB_A987;

/// A processor in a guest.
pub(crate) struct MadeUp {
    /// What CPUID answers: EAX, EBX, ECX and EDX by leaf,
    pub(crate) leaves: BTreeMap<u32, [u32; 4]>,
    /// and for all other leaves.
    pub(crate) beyond: [u32; 4],
    /// A page that can be lent.
    pub(crate) page: Box<Page>,
    /// What Xen writes there for the call of a number; what comes after it stays.
    entry: Box<dyn Fn(u32) -> Vec<u8> + Sync>,
    /// The writes to registers: which, and of what.
    writes: Mutex<Vec<(u32, u64)>>,
}

impl MadeUp {
    /// Of this maker, with Xen's leaves from `first` to `last`, and a hypercall page by this register.
    pub(crate) fn new(maker: &[u8; 12], [first, last]: [u32; 2], register: u32) -> Self {
        let word = |at: usize| u32::from_le_bytes([maker[at], maker[at + 1], maker[at + 2], maker[at + 3]]);
        let [b, c, d] = cpuid::SIGNATURE;
        let leaves = [
            (0, [0x16, word(0), word(8), word(4)]),
            (first, [last, b, c, d]),
            (first.saturating_add(1), [0x0004_0011, 0, 0, 0]),
            (first.saturating_add(2), [1, register, 0, 0]),
        ];
        Self {
            leaves: leaves.into(),
            // What a real processor answers beyond its leaves.
            beyond: [7, 0x340, 0x340, 0],
            // Full of somebody's old bytes.
            page: Box::new(Page(UnsafeCell::new([0xEE; PAGE_SIZE]))),
            entry: Box::new(|_| Vec::new()),
            writes: Mutex::default(),
        }
    }

    /// With this, in each entry of the hypercall page.
    pub(crate) fn writing(self, entry: impl Fn(u32) -> Vec<u8> + Sync + 'static) -> Self {
        Self { entry: Box::new(entry), ..self }
    }

    /// What was written to which register.
    pub(crate) fn writes(&self) -> Vec<(u32, u64)> {
        self.writes.lock().expect("nobody panics with it").clone()
    }
}

// SAFETY: an MSR does to the page what its filling is, and nothing else happens.
unsafe impl Processor for MadeUp {
    fn cpuid(&self, leaf: u32) -> [u32; 4] {
        self.leaves.get(&leaf).copied().unwrap_or(self.beyond)
    }

    fn timestamp(&self) -> u64 {
        unreachable!("Xen is found without a clock")
    }

    unsafe fn write_msr(&self, register: u32, value: u64) {
        self.writes.lock().expect("nobody panics with it").push((register, value));
        let page = self.page.mapped();
        let mut before = [0xA5; PAGE_SIZE];
        page.read_bytes(0, &mut before).expect("it is a page");
        assert_eq!(before, [0; PAGE_SIZE], "nobody reads old contents for Xen's");
        for (number, at) in (0..).zip((0..PAGE_SIZE).step_by(ENTRY_SIZE)) {
            page.write_bytes(at, &(self.entry)(number)).expect("the entries fit");
        }
    }

    unsafe fn read_port<W: Port>(&self, port: u16) -> W {
        unreachable!("Xen is found without port {port:#x}")
    }

    unsafe fn write_port<W: Port>(&self, port: u16, value: W) {
        unreachable!("Xen is found without writing {value:?} to port {port:#x}")
    }
}

/// A page of RAM.
#[repr(align(4096))]
pub(crate) struct Page(UnsafeCell<[u8; PAGE_SIZE]>);

// SAFETY: its bytes are reached through `Access` alone.
unsafe impl Sync for Page {}

impl Page {
    pub(crate) fn mapped(&self) -> Mapped {
        let bytes = NonNull::from(&self.0).cast();
        // SAFETY: it is a page, to which nobody has a reference; tests use what is returned while they have the page.
        unsafe { Mapped::new(bytes, Gfn(FRAME)) }
    }
}
