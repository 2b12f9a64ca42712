#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::bundle::pem::fuzz_pem(data));
