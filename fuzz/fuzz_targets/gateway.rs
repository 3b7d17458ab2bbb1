//! Bodies of requests for the JSON gateway. The first byte chooses the method.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_server::fuzzing::gateway(bytes));
