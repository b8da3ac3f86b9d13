//! What xenstored does to a client, from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _met = xen_fuzz::xs_wire(input);
});
