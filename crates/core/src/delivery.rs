//! Deliveries: one event on its way to one subscriber.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An enum of the database: a number inside, a word outside.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $code:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word that the API and the metrics use.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The number that the database holds.
            pub const fn code(self) -> i16 {
                match self { $(Self::$variant => $code,)* }
            }

            /// From the number that the database holds.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::delivery::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or($crate::delivery::UnknownWord {
                    what: $what,
                    known: &[$($word),*],
                })
            }
        }
    };
}
pub(crate) use named;

/// The text is none of the words that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} is one of {}", known.join(", "))]
pub struct UnknownWord {
    pub(crate) what: &'static str,
    pub(crate) known: &'static [&'static str],
}

named! {
    /// Where a delivery stands.
    DeliveryStatus, "delivery status" {
        /// To be attempted, now or later.
        Pending = 0, "pending";
        /// A receiver answered 2xx.
        Succeeded = 1, "succeeded";
        /// Given up: a dead letter.
        Dead = 2, "dead";
        /// Ended without a further attempt because it was no longer wanted.
        Cancelled = 3, "cancelled";
    }
}

named! {
    /// Why a delivery is dead.
    DeadReason, "reason" {
        /// Every attempt failed.
        AttemptsUsedUp = 0, "attempts_used_up";
        /// The receiver answered 410: it wants nothing more.
        Gone = 1, "gone";
        /// Its job was rescued from lost workers too often.
        RescuedTooOften = 2, "rescued_too_often";
        /// Its subscriber was deactivated for failing too long.
        SubscriberFailing = 3, "subscriber_failing";
    }
}
