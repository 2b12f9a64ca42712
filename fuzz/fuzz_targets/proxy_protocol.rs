#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::fuzz::parsers::fuzz_proxy_protocol(data));
