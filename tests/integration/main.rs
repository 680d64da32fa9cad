//! Integration tests: the whole proxy in one process, against a storage server of ours that can be made to fail and to lie.

mod access_log;
mod authentication;
mod authorisation;
mod bad_input;
mod conditions;
mod continuing;
mod custodian_faults;
mod cutting_off;
mod harness;
mod logging;
mod memory;
mod names;
mod retries;
mod round_trip;
mod secrecy;
mod sharing;
mod starting_together;
mod state_bucket;
mod storage_faults;
mod tampering;
mod unknown_requests;
mod uploads;
mod watching;
