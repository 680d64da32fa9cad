//! Client of the storage servers: re-sign, send, pool, retry.
