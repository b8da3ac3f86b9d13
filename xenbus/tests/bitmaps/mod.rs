//! Event channels by their bitmaps ("2-level"), as little as a test needs that is about something else.
//!
//! Source: `xen/include/public/xen.h`, `vcpu_info` and `shared_info`.
#![forbid(unsafe_code)]

use xen_abi::{
    event_channel::EvtchnPort,
    seam::Access,
    shared_info::{EVTCHN_MASK, EVTCHN_PENDING, LEGACY_MAX_VCPUS, VCPU_INFO},
};

/// Masks every port: nothing comes before somebody wants it.
pub(crate) fn mask_all<F: Access>(shared: &F) {
    for word in (0..EVTCHN_MASK.count()).filter_map(|word| EVTCHN_MASK.get(word)) {
        shared.store(word, u64::MAX);
    }
}

/// Tells of each port at which something has come for a virtual CPU, the first 32 of which have a place in the page,
/// and takes it. It ends whatever Xen does meanwhile: whether there may be more.
///
/// Callable at any level.
pub(crate) fn take_pending<F: Access>(shared: &F, vcpu: usize, mut come: impl FnMut(EvtchnPort)) -> bool {
    let upcall = VCPU_INFO.evtchn_upcall_pending.get(vcpu);
    let (Some(upcall), Some(selector)) = (upcall, VCPU_INFO.evtchn_pending_sel.get(vcpu)) else {
        debug_assert!(vcpu >= LEGACY_MAX_VCPUS, "the page has a place for each of these");
        return false;
    };
    // Before the selector: who sets it after this makes another upcall.
    if shared.swap(upcall, 0) == 0 {
        return false;
    }
    for word in ones(shared.swap(selector, 0)) {
        let (Some(pending), Some(mask)) = (EVTCHN_PENDING.get(word), EVTCHN_MASK.get(word)) else { continue };
        let due = shared.load(pending) & !shared.load(mask);
        shared.fetch_and(pending, !due);
        for bit in ones(due) {
            let port = word.saturating_mul(64).saturating_add(bit);
            come(EvtchnPort(u32::try_from(port).unwrap_or(0)));
        }
    }
    shared.load(upcall) != 0
}

/// The bits of a word that are set, from the lowest.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.checked_sub(1)?;
        usize::try_from(bit).ok()
    })
}
