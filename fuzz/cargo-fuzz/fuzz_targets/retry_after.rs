#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postrider_fuzz::target::retry_after(data));
