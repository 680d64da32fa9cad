//! The XML bodies of S3, read strictly and rewritten.
