//! The configuration file, parsed and checked into resolved structs.
