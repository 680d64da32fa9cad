//! Fuzzes `scrape`: see its property in `claviger_fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claviger_fuzz::answers::scrape(bytes));
