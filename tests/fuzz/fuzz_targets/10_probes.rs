#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_tests::fuzz::run("10_probes", data));
