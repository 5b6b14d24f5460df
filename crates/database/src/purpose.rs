//! What connections are for.

/// What the statements of a handle are for; see [`Database::serving`](crate::Database::serving). Each purpose has
/// connections that the others cannot take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Storing events.
    Intake,
    /// Claiming, loading and recording, and the upkeep of the queue and the roll-ups.
    Delivery,
    /// Reads and changes through the API.
    #[default]
    Api,
}

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 3] = [Self::Intake, Self::Delivery, Self::Api];

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
