#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::http::body::fuzz_http_body(data));
