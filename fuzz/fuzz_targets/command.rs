//! A command's payload, as the broker brings it.
#![no_main]

use graftd::mqtt::{COMMANDS, parse};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let command = COMMANDS[*first as usize % COMMANDS.len()];
    let _ = parse(command, Some("1"), rest);
    let _ = parse(command, None, rest);
});
