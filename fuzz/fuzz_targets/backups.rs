//! Files of etcd, and segments of continuous backups.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    quorate_server::fuzzing::backups(bytes);
});
