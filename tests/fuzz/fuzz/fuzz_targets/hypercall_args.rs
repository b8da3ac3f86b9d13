//! What guests ask of the hypervisor, from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    xen_fuzz::hypercall_args(input);
});
