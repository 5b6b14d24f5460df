//! The first SETTINGS of an HTTP/2 receiver, read in passing.
//!
//! Until they arrive, a client does not know how many requests a connection may carry at once, and hyper does not tell
//! afterwards when it has learnt it.

/// Reads the first frame that an HTTP/2 receiver sends, which must be SETTINGS (RFC 9113, §3.4).
#[derive(Debug, Default)]
pub(crate) struct FirstSettings {
    seen: Vec<u8>,
}

/// The length of a frame's header, and of one setting (RFC 9113, §4.1 and §6.5.1).
const HEADER: usize = 9;
const SETTING: usize = 6;
const SETTINGS: u8 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;
/// The longest frame that a receiver may send before it knows the client's settings.
const MAX_FRAME: usize = 16 * 1024;

impl FirstSettings {
    /// Takes the next bytes of the connection. Once the frame is complete, returns the number of requests that the
    /// receiver allows at once; `usize::MAX` if it does not limit them.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let room = (HEADER + MAX_FRAME).saturating_sub(self.seen.len());
        self.seen.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        let (header, payload) = self.seen.split_at_checked(HEADER)?;
        let &[a, b, c, kind, ..] = header else { return None };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind != SETTINGS || length > MAX_FRAME {
            // hyper will end the connection.
            return Some(usize::MAX);
        }
        let payload = payload.get(..length)?;
        let limit = payload.chunks_exact(SETTING).rev().find_map(|setting| match *setting {
            [id0, id1, v0, v1, v2, v3] if u16::from_be_bytes([id0, id1]) == MAX_CONCURRENT_STREAMS => {
                Some(u32::from_be_bytes([v0, v1, v2, v3]))
            }
            _ => None,
        });
        Some(limit.map_or(usize::MAX, |limit| limit as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(settings: &[(u16, u32)]) -> Vec<u8> {
        let length = u32::try_from(settings.len() * SETTING).unwrap().to_be_bytes();
        let mut frame = [&length[1..], &[SETTINGS, 0, 0, 0, 0, 0]].concat();
        for (id, value) in settings {
            frame.extend_from_slice(&id.to_be_bytes());
            frame.extend_from_slice(&value.to_be_bytes());
        }
        frame
    }

    proptest! {
        #[test]
        fn the_limit_is_found_however_the_bytes_arrive(
            mut settings in proptest::collection::vec((4u16..9, any::<u32>()), 0..6),
            limit in proptest::option::of(0u32..1000),
            chunk in 1usize..80,
            more in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            settings.extend(limit.map(|limit| (MAX_CONCURRENT_STREAMS, limit)));
            let frame = frame(&settings);
            let length = frame.len();
            let bytes = [frame, more].concat();
            let (mut first, mut fed) = (FirstSettings::default(), 0);
            let found = bytes.chunks(chunk).find_map(|chunk| {
                fed += chunk.len();
                first.feed(chunk)
            });
            prop_assert_eq!(found, Some(limit.map_or(usize::MAX, |limit| limit as usize)));
            prop_assert!(fed >= length && fed < length + chunk);
        }

        #[test]
        fn hostile_bytes_are_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut first = FirstSettings::default();
            for _ in 0..1000 {
                let _ = first.feed(&bytes);
            }
            prop_assert!(first.seen.len() <= HEADER + MAX_FRAME);
        }
    }
}
