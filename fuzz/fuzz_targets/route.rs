#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| krazy_boot::fuzzing::route(input));
