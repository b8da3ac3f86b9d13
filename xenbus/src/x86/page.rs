//! The hypercall page: Xen writes into a page of the guest's how each hypercall is made, for guests to call it there.
//!
//! Here it is only read. What Xen writes is in `vmx_init_hypercall_page` (`xen/arch/x86/hvm/vmx/vmx.c`) and
//! `svm_init_hypercall_page` (`svm/svm.c`), in 32 bytes for each call, of which it leaves the rest as it is:
//!
//! ```text
//! b8 number     mov  eax, number
//! 0f 01 c1      vmcall               or 0f 01 d9, vmmcall
//! c3            ret
//! ```
//!
//! Xen takes the write of the register for a kernel's beginning, too, and notes whether that is one of 64 bits, as
//! this is (`hvm_latch_shinfo_size`, `hvm/hvm.c`).
#![forbid(unsafe_code)]

use xen_abi::{
    hypercall::{ENTRY_SIZE, XEN_VERSION},
    seam::{Access, PAGE_SIZE, Place, Places, Processor},
};

use super::{
    PageError,
    find::{Instruction, Leaves},
    privileged::PageRegister,
};

const ENTRIES: Places<[u8; ENTRY_SIZE]> = Places::new(0, ENTRY_SIZE, PAGE_SIZE / ENTRY_SIZE);

/// The entry of a call that every Xen has.
const ENTRY: Place<[u8; ENTRY_SIZE]> = Place::new(XEN_VERSION as usize * ENTRY_SIZE);

/// What an entry may begin with, for guests that check where calls go to.
const ENDBR64: [u8; 4] = [0xF3, 0x0F, 0x1E, 0xFA];
const MOV_EAX: [u8; 1] = [0xB8];
const VMCALL: [u8; 3] = [0x0F, 0x01, 0xC1];
const VMMCALL: [u8; 3] = [0x0F, 0x01, 0xD9];
const RET: u8 = 0xC3;

/// The instruction that Xen uses in its hypercall page.
pub(super) fn instruction<A: Access>(
    processor: &impl Processor,
    leaves: Leaves,
    lend: impl FnOnce() -> Option<A>,
) -> Result<Instruction, PageError> {
    let register = PageRegister::find(processor, leaves)?;
    let page = lend().ok_or(PageError::NotLent)?;
    // A page that Xen does not write to is none that it has written before.
    for entry in (0..ENTRIES.count()).filter_map(|index| ENTRIES.get(index)) {
        page.write(entry, &[0; ENTRY_SIZE]);
    }
    register.fill(&page);
    let entry = page.read(ENTRY);
    judge(&entry).ok_or(PageError::StrangeEntry(entry))
}

/// The instruction of an entry that is what Xen writes for this call.
fn judge(entry: &[u8; ENTRY_SIZE]) -> Option<Instruction> {
    let code = entry.strip_prefix(&ENDBR64).unwrap_or(entry);
    let code = code.strip_prefix(&MOV_EAX)?.strip_prefix(&XEN_VERSION.to_le_bytes())?;
    let (instruction, rest) = code.split_first_chunk()?;
    match (*instruction, rest.first()) {
        (VMCALL, Some(&RET)) => Some(Instruction::Vmcall),
        (VMMCALL, Some(&RET)) => Some(Instruction::Vmmcall),
        _ => None,
    }
}
