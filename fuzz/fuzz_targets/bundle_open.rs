//! A bundle file, and a payload behind a header that fits it: opening either never panics, and what was read is
//! written again as the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sanedge::fuzz::parsers::fuzz_bundle_open(data));
