//! S3 error codes and their XML.
