#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::fuzz::parsers::fuzz_hybrid_share(data));
