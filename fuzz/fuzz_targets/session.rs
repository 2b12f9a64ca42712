#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::fuzz_session::fuzz_session(data));
