//! What comes in on the port of the peers: frames, hellos, messages, offers, times.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_server::fuzzing::peers(bytes));
