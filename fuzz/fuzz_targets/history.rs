//! Recorded histories in every format that `quorate check` reads.
#![no_main]

use quorate_check::parse::{Format, parse};

libfuzzer_sys::fuzz_target!(|text: &str| {
    for (format, _) in Format::ALL {
        let _ = parse(text, format, None);
    }
});
