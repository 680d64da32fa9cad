//! Fuzzes `store_row`: see its property in `claviger_fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claviger_fuzz::stored::store_row(bytes));
