//! The reason that every use of a key states, from a fixed taxonomy.

use std::fmt;
use std::str::FromStr;

/// Why a key is used. It travels to the custodian with each call, is enforced by policy and stands in the audit log.
///
/// The taxonomy follows the access justifications of the large clouds' external key managers, so that their policies carry over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The customer's own application reads or writes.
    CustomerInitiated,
    /// Support acts for a customer who asked.
    CustomerSupport,
    /// An operator acts to keep the service running.
    OperatorInitiatedService,
    /// An operator reviews, for security or abuse.
    OperatorReview,
    /// The system itself, with no person behind it.
    SystemOperation,
    /// A third party (an authority, say) asked for data.
    ThirdPartyDataRequest,
    /// Someone answers an incident.
    IncidentResponse,
    /// Planned maintenance: rewrap, migration, verification.
    Maintenance,
    /// No reason is expected for this use.
    NotExpected,
    /// No reason was given.
    Unspecified,
}

/// The text is none of the taxonomy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a known reason")]
pub struct UnknownReason;

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::CustomerInitiated,
        Self::CustomerSupport,
        Self::OperatorInitiatedService,
        Self::OperatorReview,
        Self::SystemOperation,
        Self::ThirdPartyDataRequest,
        Self::IncidentResponse,
        Self::Maintenance,
        Self::NotExpected,
        Self::Unspecified,
    ];

    /// As it stands in headers, policies and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CustomerInitiated => "customer-initiated",
            Self::CustomerSupport => "customer-support",
            Self::OperatorInitiatedService => "operator-initiated-service",
            Self::OperatorReview => "operator-review",
            Self::SystemOperation => "system-operation",
            Self::ThirdPartyDataRequest => "third-party-data-request",
            Self::IncidentResponse => "incident-response",
            Self::Maintenance => "maintenance",
            Self::NotExpected => "not-expected",
            Self::Unspecified => "unspecified",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(UnknownReason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_both_ways_and_nothing_else_parses() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
        for bad in ["", "Maintenance", "maintenance ", "because"] {
            assert_eq!(bad.parse::<Reason>(), Err(UnknownReason), "{bad:?}");
        }
    }
}
