//! The aws-chunked transfer encoding.
