//! Why an event has no payload any more.

/// Why an event's payload is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadGone {
    /// It was erased on request.
    Erased,
    /// It was older than payloads are kept.
    Expired,
}

impl PayloadGone {
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Erased => 1,
            Self::Expired => 2,
        }
    }

    /// Reads the column `events.payload_gone`.
    pub(crate) fn from_code(code: Option<i16>) -> Option<Self> {
        code.map(|code| if code == Self::Erased.code() { Self::Erased } else { Self::Expired })
    }
}
