//! Custody of keys: the `Custodian` trait, branch keys and their cache. Free of any storage protocol.
