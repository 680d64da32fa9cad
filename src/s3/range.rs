//! The Range header.
