//! What a backend and a toolstack do to a frontend, from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _met = xen_fuzz::xenbus_state(input);
});
