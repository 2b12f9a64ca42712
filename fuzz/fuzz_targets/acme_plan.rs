#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::fuzz::parsers::fuzz_acme_plan(data));
