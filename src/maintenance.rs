//! Jobs over what is stored: rewrap, census, re-encrypt, migrate, verify, export, gc.
//!
//! They run beside the applications, on any number of machines, are resumed from checkpoints in the state bucket, and are safe to run twice.
