#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::ws::tracker::fuzz_ws_sequence(data));
