//! Typed ids: UUIDv7 in the database, TypeID everywhere else.
//!
//! A TypeID is a prefix, `_`, and the UUID in 26 characters of Crockford's base32 ([TypeID specification] 0.3). The type
//! parameter prevents passing an event's id where a subscriber's is expected.
//!
//! [TypeID specification]: https://github.com/jetify-com/typeid/tree/main/spec

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{Clock, Random};

/// The type parameter of an [`Id`]: what the id names.
pub trait IdKind: 'static {
    /// The TypeID's prefix, such as `evt`.
    const PREFIX: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $alias:ident = $prefix:literal;)*) => {$(
        #[doc = concat!("The type parameter of [`", stringify!($alias), "`].")]
        #[derive(Clone, Copy, Debug)]
        pub enum $kind {}
        impl IdKind for $kind {
            const PREFIX: &'static str = $prefix;
        }
        $(#[$doc])*
        pub type $alias = Id<$kind>;
    )*};
}

kinds! {
    /// The id of an event. It is also the `webhook-id` of all its deliveries.
    Event, EventId = "evt";
    /// The id of a subscriber and of its lane in the queue.
    Subscriber, SubscriberId = "sub";
    /// The id of a delivery.
    Delivery, DeliveryId = "dlv";
    /// The id of an attempt.
    Attempt, AttemptId = "att";
    /// The id of a job in the queue.
    Job, JobId = "job";
}

/// A typed id. Ids sort by the time of their creation.
///
/// ```
/// use postrider_core::{EventId, SubscriberId};
///
/// let id: EventId = "evt_01h455vb4pex5vsknk084sn02q".parse()?;
/// assert_eq!(id.uuid().to_string(), "01890a5d-ac96-774b-bcce-b302099a8057");
/// assert_eq!(id.to_string(), "evt_01h455vb4pex5vsknk084sn02q");
/// assert!("evt_01h455vb4pex5vsknk084sn02q".parse::<SubscriberId>().is_err());
/// # Ok::<(), postrider_core::id::IdError>(())
/// ```
pub struct Id<K> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

/// Why a text is not an id of the expected type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The prefix is missing, or belongs to another type of id.
    #[error("expected an id that starts with `{0}_`")]
    Prefix(&'static str),
    /// The part after the prefix is not 26 lower-case base32 characters of a number below 2^128.
    #[error("expected `{0}_` followed by 26 characters of TypeID base32 (0-9, a-z without i, l, o, u)")]
    Suffix(&'static str),
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX: usize = 26;

impl<K> Id<K> {
    /// Makes an id of the UUID in the database.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self { uuid, kind: PhantomData }
    }

    /// Returns the UUID in the database.
    pub const fn uuid(self) -> Uuid {
        self.uuid
    }
}

impl<K: IdKind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.uuid.as_u128();
        f.write_str(K::PREFIX)?;
        f.write_str("_")?;
        let mut suffix = [0_u8; SUFFIX];
        for (place, digit) in suffix.iter_mut().enumerate() {
            *digit = ALPHABET[(bits >> (5 * (SUFFIX - 1 - place)) & 31) as usize];
        }
        f.write_str(std::str::from_utf8(&suffix).map_err(|_| fmt::Error)?)
    }
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let suffix = text
            .strip_prefix(K::PREFIX)
            .and_then(|rest| rest.strip_prefix('_'))
            .ok_or(IdError::Prefix(K::PREFIX))?;
        let wrong = IdError::Suffix(K::PREFIX);
        // 26 digits hold 130 bits, so a first digit above 7 would overflow.
        if suffix.len() != SUFFIX || suffix.as_bytes()[0] > b'7' {
            return Err(wrong);
        }
        let bits = suffix.bytes().try_fold(0_u128, |bits, byte| {
            let digit = ALPHABET.iter().position(|&letter| letter == byte).ok_or(wrong)?;
            Ok(bits << 5 | digit as u128)
        })?;
        Ok(Self::from_uuid(Uuid::from_u128(bits)))
    }
}

// Not derived: derives would require the same traits of `K`.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}
impl<K: IdKind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl<K: IdKind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, K: IdKind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Generates ids that sort by the time of their creation: UUIDv7 (RFC 9562, §5.7).
///
/// The ids of one generator are strictly increasing, also within a millisecond: the twelve bits after the time are a
/// counter (RFC 9562, §6.2, method 1), which borrows from the next millisecond when it overflows.
///
/// ```
/// use postrider_core::{EventId, IdGenerator};
///
/// let ids = IdGenerator::system();
/// let (first, second): (EventId, EventId) = (ids.next(), ids.next());
/// assert!(first < second);
/// ```
#[derive(Clone)]
pub struct IdGenerator {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    state: Arc<Mutex<State>>,
}

/// The number of ids for which to fetch randomness at once, because each fetch is a system call.
const BATCH: usize = 64;

struct State {
    /// The milliseconds and counter of the last id: `millis << 12 | counter`.
    last: u64,
    /// Unused randomness, consumed from the end.
    random: Vec<[u8; 8]>,
}

impl IdGenerator {
    /// Makes a generator that reads `clock` and `random`.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let state = State { last: 0, random: Vec::new() };
        Self { clock, random, state: Arc::new(Mutex::new(state)) }
    }

    /// Makes a generator that reads the operating system's clock and randomness.
    pub fn system() -> Self {
        Self::new(Arc::new(crate::SystemClock), Arc::new(crate::SystemRandom))
    }

    /// Returns the clock that this generator reads.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Returns the source of randomness that this generator reads.
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.random
    }

    /// Returns the next id.
    pub fn next<K: IdKind>(&self) -> Id<K> {
        Id::from_uuid(self.next_uuid())
    }

    /// Returns the next id as a plain UUID, for internal values such as lease tokens.
    pub fn next_uuid(&self) -> Uuid {
        let now = u64::try_from(self.clock.now().millis()).unwrap_or(0) << 12;
        let (stamp, random) =
            self.state.lock().unwrap_or_else(PoisonError::into_inner).next(now, &*self.random);
        // The builder overwrites the four version bits; the twelve bits after them are the counter.
        let mut bytes = [(stamp >> 8 & 0x0f) as u8, (stamp & 0xff) as u8, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..].copy_from_slice(&random);
        uuid::Builder::from_unix_timestamp_millis(stamp >> 12, &bytes).into_uuid()
    }
}

impl State {
    fn next(&mut self, now: u64, random: &dyn Random) -> (u64, [u8; 8]) {
        self.last = now.max(self.last + 1);
        if self.random.is_empty() {
            let mut batch = vec![[0; 8]; BATCH];
            random.fill(batch.as_flattened_mut());
            self.random = batch;
        }
        (self.last, self.random.pop().unwrap_or_default())
    }
}

impl fmt::Debug for IdGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdGenerator").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Pairs of text and UUID from the specification's `valid.yml`.
    #[test]
    fn ids_match_the_vectors_of_the_specification() {
        for (suffix, uuid) in [
            ("00000000000000000000000000", "00000000-0000-0000-0000-000000000000"),
            ("00000000000000000000000001", "00000000-0000-0000-0000-000000000001"),
            ("0000000000000000000000000g", "00000000-0000-0000-0000-000000000010"),
            ("7zzzzzzzzzzzzzzzzzzzzzzzzz", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
            ("01h455vb4pex5vsknk084sn02q", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ] {
            let id: EventId = format!("evt_{suffix}").parse().unwrap();
            assert_eq!(id.uuid(), uuid.parse::<Uuid>().unwrap());
            assert_eq!(id.to_string(), format!("evt_{suffix}"));
        }
    }

    #[test]
    fn a_malformed_id_is_rejected() {
        for text in [
            "",
            "evt",
            "evt_",
            "01h455vb4pex5vsknk084sn02q",
            "sub_01h455vb4pex5vsknk084sn02q",
            "EVT_01h455vb4pex5vsknk084sn02q",
            "evt_01H455VB4PEX5VSKNK084SN02Q",
            "evt_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "evt_01h455vb4pex5vsknk084sn02",
            "evt_01h455vb4pex5vsknk084sn02qq",
            "evt_01h455vb4pex5vsknk084sn02u",
            "evt_ü1h455vb4pex5vsknk084sn02",
        ] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_of_one_generator_increase() {
        let ids = IdGenerator::system();
        let made: Vec<EventId> = (0..10_000).map(|_| ids.next()).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(made.iter().all(|id| id.uuid().get_version_num() == 7));
    }

    proptest! {
        #[test]
        fn any_uuid_survives_printing_and_parsing(bits: u128) {
            let id = DeliveryId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<DeliveryId>().unwrap(), id);
        }
    }
}
