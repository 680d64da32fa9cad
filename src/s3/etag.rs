//! How storage ETags look to clients, and back.
