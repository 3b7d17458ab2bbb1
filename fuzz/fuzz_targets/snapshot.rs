//! Snapshots in files, and the small files of a data directory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    quorate_server::fuzzing::snapshot(bytes);
    quorate_server::fuzzing::words_of_a_directory(bytes);
});
