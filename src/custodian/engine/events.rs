//! What those who watch are told, as it happens.

use crate::names::KekName;

/// What happened to a KEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KekEvent {
    /// It was made.
    Created,
    /// It was switched off, or set aside for deletion.
    Disabled,
    /// It was switched on again.
    Enabled,
    /// It has a new version.
    Rotated,
    /// Something else about it.
    Changed,
    /// It is gone.
    Deleted,
}

impl KekEvent {
    /// As watchers are told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Rotated => "rotated",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }
}

/// What watchers are told. Whoever lags too far behind gets the channel's own error, and has to assume that everything changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// About a KEK.
    Kek {
        /// Which.
        name: KekName,
        /// What.
        change: KekEvent,
    },
    /// A principal was shut out or let in again.
    Principal {
        /// Who.
        principal: String,
        /// Shut out.
        revoked: bool,
    },
    /// Another policy is in force.
    Policy {
        /// SHA-256 of its text.
        hash: [u8; 32],
    },
    /// Access grants changed.
    Grants,
}
