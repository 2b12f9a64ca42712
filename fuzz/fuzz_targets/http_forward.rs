#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::http::forward::fuzz_http_forward(data));
