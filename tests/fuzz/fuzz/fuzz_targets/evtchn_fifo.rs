//! What is in the queues of event channels, from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _met = xen_fuzz::evtchn_fifo(input);
});
