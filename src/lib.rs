//! Claviger, an encrypting storage proxy with key custody.
//!
//! The modules stand on floors; a module imports only from strictly lower floors, and
//! `tests/tidy.rs` enforces it. docs/ARCHITECTURE.md is the map in prose.
//!
//! ```text
//! floor 5  cli, config      one file per subcommand; the only place where concrete parts are wired
//! floor 4  proxy            listener side: authenticate, route, dispatch, respond
//!          maintenance      jobs over what is stored: rewrap, census, re-encrypt, migrate, verify, export, gc
//! floor 3  object           the S3 operations on encrypted objects
//! floor 2  storage          client of the storage servers
//!          transit          a custodian over the Vault/OpenBao Transit API
//!          custodian        the custodian's engine
//! floor 1  format           the stored format, no I/O
//!          custody          the Custodian trait, branch keys and their cache
//!          s3               the S3 protocol, no I/O
//!          tlog             append-only Merkle logs: write, prove, verify, witness
//! floor 0  crypto, secret, names, cbor, net, telemetry
//! ```

#[cfg(all(feature = "ring", feature = "aws-lc"))]
compile_error!("one cryptographic library, not two: build with --no-default-features --features aws-lc (or fips)");
#[cfg(not(any(feature = "ring", feature = "aws-lc")))]
compile_error!("no cryptographic library: leave the default features on, or add --features aws-lc (or fips)");

pub mod cbor;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod custodian;
pub mod custody;
pub mod format;
pub mod maintenance;
pub mod names;
pub mod net;
pub mod object;
pub mod proxy;
pub mod s3;
pub mod secret;
pub mod storage;
pub mod telemetry;
pub mod tlog;
pub mod transit;
