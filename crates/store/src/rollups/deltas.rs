//! Deltas: what a transaction adds to the roll-ups.
//!
//! A delta is a row that no other transaction writes to, so no writer waits for another. It holds all that one batch
//! counts of one tenant, packed, so a batch writes one row of some 20 bytes for each delivery. Folding
//! ([`super::folding`]) adds deltas to the rows that readers read; until then, readers read the deltas as well.

use std::collections::BTreeMap;

use postrider_core::TenantId;
use postrider_database::{Batch, Column, Kind, Writes};
use uuid::Uuid;

use super::counted::{Counted, Encoded};
use super::key::Key;
use crate::encoding::{read_bytes, read_number, read_signed, write_bytes, write_number, write_signed};

/// The first byte: the version of the format.
const FORMAT: u8 = 1;

/// The most entries of one delta. What counts more writes several.
const MOST_ENTRIES: usize = 1_000;

/// Adds deltas to `writes`.
pub(crate) fn add(counted: impl IntoIterator<Item = (Key, Counted)>, writes: &mut Writes) {
    const DELTA: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("entries", Kind::Int),
        Column::new("counts", Kind::Bytes),
    ];
    let mut tenants: BTreeMap<TenantId, Vec<(Key, Counted)>> = BTreeMap::new();
    for (key, counted) in counted {
        tenants.entry(key.tenant.clone()).or_default().push((key, counted));
    }
    let mut input = Batch::new(DELTA);
    for (tenant, entries) in tenants {
        for entries in entries.chunks(MOST_ENTRIES) {
            let number = i32::try_from(entries.len()).unwrap_or(i32::MAX);
            input.push([tenant.as_str().into(), number.into(), pack(entries).into()]);
        }
    }
    let sql = "INSERT INTO rollup_deltas (tenant, entries, counts) SELECT tenant, entries, counts FROM input";
    writes.push(input, sql);
}

/// The stored form of entries: the version; the event types, after their number; the first minute; the entries, after
/// their number, each with subscriber, event type (its place), minute (from the first one), and what was counted.
fn pack(entries: &[(Key, Counted)]) -> Vec<u8> {
    let mut types: BTreeMap<&str, u64> =
        entries.iter().map(|(key, _)| (key.event_type.as_str(), 0)).collect();
    let mut bytes = vec![FORMAT];
    write_number(&mut bytes, types.len() as u64);
    for (place, (event_type, number)) in (0..).zip(&mut types) {
        *number = place;
        write_bytes(&mut bytes, event_type.as_bytes());
    }
    let first = entries.iter().map(|(key, _)| key.minute).min().unwrap_or(0);
    write_signed(&mut bytes, first);
    write_number(&mut bytes, entries.len() as u64);
    for (key, counted) in entries {
        bytes.extend_from_slice(key.subscriber.uuid().as_bytes());
        write_number(&mut bytes, types.get(key.event_type.as_str()).copied().unwrap_or(0));
        write_number(&mut bytes, key.minute.abs_diff(first));
        counted.write(&mut bytes);
    }
    bytes
}

/// What a delta counts of one subscriber, event type and minute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) subscriber: Uuid,
    pub(super) event_type: &'a str,
    pub(super) minute: i64,
    pub(super) counted: Encoded<'a>,
}

/// Reads what [`pack`] wrote. `None` if the bytes are not in that form.
pub(super) fn unpack(bytes: &[u8]) -> Option<Vec<Entry<'_>>> {
    let (&FORMAT, mut bytes) = bytes.split_first()? else { return None };
    let bytes = &mut bytes;
    let mut types = Vec::new();
    for _ in 0..read_number(bytes)? {
        types.push(str::from_utf8(read_bytes(bytes)?).ok()?);
    }
    let first = read_signed(bytes)?;
    let mut entries = Vec::new();
    for _ in 0..read_number(bytes)? {
        let (subscriber, rest) = bytes.split_at_checked(16)?;
        *bytes = rest;
        entries.push(Entry {
            subscriber: Uuid::from_slice(subscriber).ok()?,
            event_type: types.get(usize::try_from(read_number(bytes)?).ok()?).copied()?,
            minute: first.checked_add_unsigned(read_number(bytes)?)?,
            counted: Encoded::read(bytes)?,
        });
    }
    bytes.is_empty().then_some(entries)
}

#[cfg(test)]
mod tests {
    use postrider_core::{SubscriberId, Timestamp};
    use proptest::prelude::*;

    use super::super::counted::Counts;
    use super::super::tally::Tally;
    use super::*;

    fn entry(subscriber: u128, event_type: &str, minute: i64, succeeded: i64) -> (Key, Counted) {
        let (tenant, at) = (TenantId::default(), Timestamp::from_millis(minute * 60_000));
        let subscriber = SubscriberId::from_uuid(Uuid::from_u128(subscriber));
        let key = Key::new(&tenant, subscriber, &event_type.parse().unwrap(), at);
        let tally = Tally::from_bytes(&[3, 1]).unwrap();
        (key, Counted { counts: Counts { succeeded, spent: 7, ..Counts::default() }, tally })
    }

    proptest! {
        #[test]
        fn entries_survive_packing(
            given in prop::collection::vec((any::<u128>(), "[a-z]{1,9}", -9_000_000..9_000_000_i64, any::<i64>()), 0..40)
        ) {
            let entries: Vec<_> =
                given.iter().map(|(id, event_type, minute, count)| entry(*id, event_type, *minute, *count)).collect();
            let bytes = pack(&entries);
            let read = unpack(&bytes).unwrap();
            prop_assert_eq!(read.len(), entries.len());
            for (read, (key, counted)) in read.iter().zip(&entries) {
                prop_assert_eq!(read.subscriber, key.subscriber.uuid());
                prop_assert_eq!(read.event_type, key.event_type.as_str());
                prop_assert_eq!(read.minute, key.minute);
                prop_assert_eq!(&read.counted.decode().unwrap(), counted);
            }
            // No shorter or longer bytes are in that form.
            prop_assert!(unpack(&bytes[..bytes.len() - 1]).is_none());
            prop_assert!(unpack(&[&bytes[..], &[0]].concat()).is_none());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = unpack(&bytes);
            let _ = unpack(&[&[FORMAT], &bytes[..]].concat());
        }
    }

    #[test]
    fn a_delivery_takes_about_twenty_bytes() {
        let entries: Vec<_> = (0..100).map(|n| entry(n, "order.created", 29_000_000, 1)).collect();
        assert!(pack(&entries).len() < 100 * 28, "{}", pack(&entries).len());
    }
}
