#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::proxy_protocol::fuzz_proxy_protocol(data));
