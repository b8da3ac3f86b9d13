//! The processor that runs the tests.
#![forbid(unsafe_code)]

use xen_abi::seam::Processor as _;
use xenbus::x86::Native;

/// This processor is asked, and not another: two instructions of its that every host can execute.
#[test]
fn the_native_processor_is_this_one() {
    let leaf = core::arch::x86_64::__cpuid(0);
    assert_eq!(Native.cpuid(0), [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]);
    let before = Native.timestamp();
    assert!((0..1000).any(|_| Native.timestamp() > before), "the counter stands still");
}
