#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::ws::frame::fuzz_ws_frame(data));
