//! What guests do to xenstored, from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _broken = xen_fuzz::xs_wire_server(input);
});
