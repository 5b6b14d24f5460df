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
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{Clock, Random, Timestamp};

/// The type parameter of an [`Id`]: what the id names.
pub trait IdKind: 'static {
    /// The TypeID's prefix, such as `evt`.
    const PREFIX: &'static str;
    /// How many of the last bits are zero in a generated id.
    const ZERO_BITS: u32 = 0;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $alias:ident = $prefix:literal $(, $zero_bits:expr)?;)*) => {$(
        #[doc = concat!("The type parameter of [`", stringify!($alias), "`].")]
        #[derive(Clone, Copy, Debug)]
        pub enum $kind {}
        impl IdKind for $kind {
            const PREFIX: &'static str = $prefix;
            $(const ZERO_BITS: u32 = $zero_bits;)?
        }
        $(#[$doc])*
        pub type $alias = Id<$kind>;
    )*};
}

kinds! {
    /// The id of an event. It is also the `webhook-id` of all its deliveries.
    Event, EventId = "evt", DELIVERY_BITS;
    /// The id of a subscriber and of its lane in the queue.
    Subscriber, SubscriberId = "sub";
    /// The id of a delivery: that of its event, with the delivery's number in the last bits.
    Delivery, DeliveryId = "dlv";
    /// The id of an attempt.
    Attempt, AttemptId = "att";
    /// The id of a job in the queue.
    Job, JobId = "job";
    /// The id of a request to the API.
    Request, RequestId = "req";
    /// The id of an API key. Its text begins with another prefix.
    Key, KeyId = "key";
    /// The id of a row of the audit trail.
    Audit, AuditId = "aud";
    /// The place of a tenant in lists, which are in the order of registration.
    TenantPlace, TenantPlaceId = "tnt";
    /// The place of a row in the live tail, which is in the order of time.
    TailPlace, TailPlaceId = "tlr";
    /// The id of a replay.
    Replay, ReplayId = "rpl";
    /// The id of a sandbox, a receiver for tests.
    Sandbox, SandboxId = "sbx";
    /// The id of a listener, which hands deliveries to a program on another machine.
    Listener, ListenerId = "lsn";
    /// The id of a request that is handed to a listener.
    Handover, HandoverId = "hnd";
}

/// How many of the last bits of a delivery's id are its number. They are zero in its event's id.
const DELIVERY_BITS: u32 = 20;
const NUMBER: u128 = (1 << DELIVERY_BITS) - 1;

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

    /// Reads the part of an id after its prefix; `None` if it is malformed.
    pub(crate) fn from_suffix(suffix: &str) -> Option<Self> {
        // 26 digits hold 130 bits, so a first digit above 7 would overflow.
        if suffix.len() != SUFFIX || suffix.as_bytes()[0] > b'7' {
            return None;
        }
        let bits = suffix.bytes().try_fold(0_u128, |bits, byte| {
            let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
            Some(bits << 5 | digit as u128)
        })?;
        Some(Self::from_uuid(Uuid::from_u128(bits)))
    }

    /// Returns the UUID in the database.
    pub const fn uuid(self) -> Uuid {
        self.uuid
    }

    /// Returns the least id that can be made at a moment.
    pub fn first_at(moment: Timestamp) -> Self {
        // The first 48 bits of a UUIDv7 are Unix milliseconds.
        let millis = u128::try_from(moment.millis()).unwrap_or(0).min((1 << 48) - 1);
        Self::from_uuid(Uuid::from_u128(millis << 80))
    }

    /// Returns when the id was made, by the clock of the process that made it.
    pub const fn made_at(self) -> Timestamp {
        // The first 48 bits of a UUIDv7 are Unix milliseconds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "48 bits fit")]
        Timestamp::from_millis((self.uuid.as_u128() >> 80) as i64)
    }
}

impl EventId {
    /// The most deliveries that an event can have.
    pub const MAX_DELIVERIES: usize = NUMBER as usize;

    /// Returns the id of the event's delivery with this number, from 1 to [`EventId::MAX_DELIVERIES`]; `None` for other
    /// numbers.
    ///
    /// ```
    /// use postrider_core::{EventId, IdGenerator};
    ///
    /// let event: EventId = IdGenerator::system().next();
    /// let delivery = event.delivery(7).ok_or("too many deliveries")?;
    /// assert_eq!(delivery.event(), event);
    /// assert!(event.deliveries().contains(&delivery));
    /// # Ok::<(), &str>(())
    /// ```
    pub fn delivery(self, number: usize) -> Option<DeliveryId> {
        let number = u128::try_from(number).ok().filter(|number| (1..=NUMBER).contains(number))?;
        Some(Id::from_uuid(Uuid::from_u128(self.uuid.as_u128() & !NUMBER | number)))
    }

    /// Returns the range of the ids of the event's deliveries.
    pub fn deliveries(self) -> RangeInclusive<DeliveryId> {
        let id = |bits| Id::from_uuid(Uuid::from_u128(bits));
        id(self.uuid.as_u128() & !NUMBER)..=id(self.uuid.as_u128() | NUMBER)
    }

    /// Returns the range of the ids of deliveries that were made after the event, but within this time.
    pub fn deliveries_within(self, time: Duration) -> RangeInclusive<DeliveryId> {
        let millis = u128::try_from(self.made_at().millis()).unwrap_or(0) + time.as_millis();
        let end = (millis << 80) | (u128::MAX >> 48);
        Id::from_uuid(self.uuid)..=Id::from_uuid(Uuid::from_u128(end))
    }

    /// Returns whether the ids of the event's deliveries begin with its own. Those of the first edition do not.
    pub fn numbers_deliveries(self) -> bool {
        self.uuid.as_u128() & NUMBER == 0
    }
}

impl DeliveryId {
    /// Returns the number of the delivery among those of its event. Those of the first edition have none.
    pub fn number(self) -> usize {
        usize::try_from(self.uuid.as_u128() & NUMBER).unwrap_or(EventId::MAX_DELIVERIES)
    }

    /// Returns the event whose id this one begins with. Deliveries of the first edition store their event apart.
    pub fn event(self) -> EventId {
        Id::from_uuid(Uuid::from_u128(self.uuid.as_u128() & !NUMBER))
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
        Self::from_suffix(suffix).ok_or(wrong)
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
/// counter (RFC 9562, §6.2, method 1), which begins at a random number in each millisecond, and borrows from the next
/// millisecond when it overflows.
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

/// The random bytes of an id: where the counter begins, and the part after the counter.
const DRAW: usize = 10;

/// The bits of the counter, and those in which it begins: half of its numbers are left to count on.
const COUNTER: u64 = (1 << 12) - 1;
const BEGINNING: u64 = (1 << 11) - 1;

struct State {
    /// The milliseconds and counter of the last id: `millis << 12 | counter`.
    last: u64,
    /// Unused randomness, consumed from the end.
    random: Vec<[u8; DRAW]>,
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
        let made = self.next_uuid().as_u128();
        Id::from_uuid(Uuid::from_u128(made >> K::ZERO_BITS << K::ZERO_BITS))
    }

    /// Returns the next id as a plain UUID, for internal values such as lease tokens.
    pub fn next_uuid(&self) -> Uuid {
        let now = u64::try_from(self.clock.now().millis()).unwrap_or(0) << 12;
        let (stamp, random) =
            self.state.lock().unwrap_or_else(PoisonError::into_inner).next(now, &*self.random);
        // The builder overwrites the four version bits; the twelve bits after them are the counter.
        let mut bytes = [(stamp >> 8 & 0x0f) as u8, (stamp & 0xff) as u8, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..].copy_from_slice(&random[2..]);
        uuid::Builder::from_unix_timestamp_millis(stamp >> 12, &bytes).into_uuid()
    }
}

impl State {
    fn next(&mut self, now: u64, random: &dyn Random) -> (u64, [u8; DRAW]) {
        if self.random.is_empty() {
            let mut batch = vec![[0; DRAW]; BATCH];
            random.fill(batch.as_flattened_mut());
            self.random = batch;
        }
        let drawn = self.random.pop().unwrap_or_default();
        let beginning = u64::from(u16::from_be_bytes([drawn[0], drawn[1]])) & BEGINNING;
        self.last = if now > self.last | COUNTER { now | beginning } else { self.last + 1 };
        (self.last, drawn)
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

    #[test]
    fn deliveries_are_numbered_within_their_event() {
        let ids = IdGenerator::system();
        let (before, event, after): (EventId, EventId, EventId) = (ids.next(), ids.next(), ids.next());
        let last = event.delivery(EventId::MAX_DELIVERIES).unwrap();
        let first = event.delivery(1).unwrap();
        assert_eq!((event.delivery(0), event.delivery(EventId::MAX_DELIVERIES + 1)), (None, None));
        assert!(first < last && first.event() == event && last.event() == event);
        assert!(event.numbers_deliveries() && event.deliveries().contains(&last));
        assert!(!before.deliveries().contains(&first) && !after.deliveries().contains(&last));
        assert_eq!(last.made_at(), event.made_at());
        let of_the_first_edition: EventId = "evt_01h455vb4pex5vsknk084sn02q".parse().unwrap();
        assert!(!of_the_first_edition.numbers_deliveries());
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let id: EventId = IdGenerator::system().next();
        let now = crate::SystemClock.now();
        assert!(now.since(id.made_at()).as_secs() < 60 && id.made_at().since(now).as_secs() < 60);
    }

    proptest! {
        #[test]
        fn any_uuid_survives_printing_and_parsing(bits: u128) {
            let id = DeliveryId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<DeliveryId>().unwrap(), id);
        }
    }
}
