//! What others do with what they are granted, from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _met = xen_fuzz::gnttab(input);
});
