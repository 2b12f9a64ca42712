#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::fuzz::messages::fuzz_http_forward(data));
