#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| krazy_init::fuzzing::ipv4(input));
