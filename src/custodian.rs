//! The custodian: keyring and seal.
