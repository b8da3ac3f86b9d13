//! A driver image for the tests of this module: `fixture.s`, assembled into this test as read-only bytes.
#![expect(unsafe_code, reason = "looks at an assembled image")]

use std::{arch::global_asm, slice};

use super::{Activation, Binding, IMAGE_BASE, Image, LoadError, LoadOptions, Machine, Native, Preempt};

/// What `ntoskrnl.exe!Ask` is bound to.
pub(super) const ASK: u32 = 7;

/// The loaded image.
pub(super) struct Fixture {
    pub(super) image: Image,
    pub(super) machine: Machine,
}

impl Fixture {
    pub(super) fn load(preempt: Preempt) -> Self {
        let machine = Machine::claim();
        let image = load(&machine, &file(), preempt).expect("the fixture is a driver image");
        Self { image, machine }
    }

    /// The address of a function or of a piece of data.
    pub(super) fn address(&self, name: &str) -> u64 {
        self.image.range().start + u64::from(rva(name))
    }

    /// A call of a function, about to start.
    pub(super) fn call(&self, name: &str, arguments: &[u64]) -> Activation {
        let mut four = [0; 4];
        four[..arguments.len()].copy_from_slice(arguments);
        Activation::new(self.machine.stack(), self.address(name), four)
    }
}

/// Loads a file as the fixture is loaded.
pub(super) fn load(machine: &Machine, file: &[u8], preempt: Preempt) -> Result<Image, LoadError> {
    let options = LoadOptions { base: IMAGE_BASE, preempt, symbols: None };
    Image::load(machine, "fixture.sys", file, &options, &mut |module, symbol| match (module, symbol) {
        ("ntoskrnl.exe", "Ask") => Some(Binding::Export(ASK)),
        ("ntoskrnl.exe", _) => Native::named(symbol).map(Binding::Native),
        ("hal.dll", "#3") => Some(Binding::Export(3)),
        _ => None,
    })
}

unsafe extern "C" {
    safe static nt_sim_fixture: u8;
    safe static nt_sim_fixture_end: u8;
    safe static nt_sim_fixture_names: u8;
    safe static nt_sim_fixture_names_end: u8;
}

fn between(start: &'static u8, end: &'static u8) -> &'static [u8] {
    let length = std::ptr::from_ref(end).addr() - std::ptr::from_ref(start).addr();
    // SAFETY: both labels are in one read-only section, in this order.
    unsafe { slice::from_raw_parts(start, length) }
}

/// The file.
pub(super) fn file() -> Vec<u8> {
    between(&nt_sim_fixture, &nt_sim_fixture_end).to_vec()
}

/// Where a label is in the image: names and offsets alternate in the table.
pub(super) fn rva(name: &str) -> u32 {
    let mut rest = between(&nt_sim_fixture_names, &nt_sim_fixture_names_end);
    while let Some(end) = rest.iter().position(|&byte| byte == 0) {
        let (label, after) = rest.split_at(end);
        let (offset, next) = after[1..].split_first_chunk().expect("a name is followed by its offset");
        if label == name.as_bytes() {
            return u32::from_le_bytes(*offset);
        }
        rest = next;
    }
    panic!("the fixture has no `{name}`")
}

/// Reads from where nothing is, as the host.
pub(super) fn fault() {
    let nothing: *const u8 = std::ptr::without_provenance(16);
    // SAFETY: there is none: the process is meant to end here.
    unsafe { nothing.read_volatile() };
}

/// Where it would be loaded if it could choose.
pub(super) const PREFERRED: u64 = 0x1_4000_0000;

global_asm!(include_str!("fixture.s"), preferred = const PREFERRED);
