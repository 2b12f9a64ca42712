#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::fuzz::client::fuzz_engineio(data));
