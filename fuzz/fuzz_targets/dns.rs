#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::doctor::fuzz_dns(data));
