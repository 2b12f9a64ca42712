#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::http::head::fuzz_http_head(data));
