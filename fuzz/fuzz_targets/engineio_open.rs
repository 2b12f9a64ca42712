#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::engineio::fuzz_engineio_open(data));
