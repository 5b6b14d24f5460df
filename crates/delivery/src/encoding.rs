//! The body of a request as it is signed and sent: compressed, or left out.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use postrider_core::policy::{Compression, RequestMethod};
use postrider_core::{Policy, bounds};
use tokio::sync::Semaphore;

/// A body of up to this many bytes is compressed at once, since a change of thread would take longer.
const AT_ONCE: usize = 16 * 1024;
/// How many larger bodies are compressed at the same time.
static COMPRESSING: Semaphore = Semaphore::const_new(4);

/// The body of a request, as it is signed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The bytes.
    pub bytes: Bytes,
    /// The `Content-Encoding`; `None` if the bytes are not compressed.
    pub content_encoding: Option<&'static str>,
}

impl Encoded {
    /// Makes of `plain` what a subscriber with this policy receives: nothing with `GET`, and otherwise the compressed bytes
    /// if it asks for them and they are fewer. The same bytes are always compressed to the same bytes.
    ///
    /// Large bodies are compressed on a thread for blocking work, so this needs a tokio runtime.
    pub async fn for_policy(policy: &Policy, plain: Bytes) -> Self {
        if policy.method() == RequestMethod::Get {
            return Self::plain(Bytes::new());
        }
        let (Some(Compression::Gzip), true) = (policy.compression(), plain.len() > bounds::COMPRESSED_ABOVE)
        else {
            return Self::plain(plain);
        };
        let compressed = if plain.len() <= AT_ONCE {
            gzip(&plain)
        } else {
            // Never closed.
            let permit = COMPRESSING.acquire().await.ok();
            let source = plain.clone();
            let compressing = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                gzip(&source)
            });
            // It fails only while the runtime shuts down.
            compressing.await.ok().flatten()
        };
        match compressed.filter(|compressed| compressed.len() < plain.len()) {
            Some(compressed) => Self { bytes: compressed.into(), content_encoding: Some("gzip") },
            None => Self::plain(plain),
        }
    }

    /// A body that is not compressed.
    pub fn plain(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), content_encoding: None }
    }
}

/// Compresses bytes (RFC 1952), without a time, so that each attempt has the same body.
fn gzip(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Level::default());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use postrider_core::policy::PolicyFields;
    use postrider_core::{Random as _, SystemRandom};

    use super::*;

    fn policy(method: RequestMethod, compression: Option<Compression>) -> Policy {
        let fields = PolicyFields { method: Some(method), compression, ..PolicyFields::default() };
        Policy::try_from(fields).unwrap()
    }

    #[tokio::test]
    async fn a_body_above_the_bound_is_compressed_if_that_saves_bytes() {
        let asking = policy(RequestMethod::Put, Some(Compression::Gzip));
        for size in [bounds::COMPRESSED_ABOVE + 1, AT_ONCE, AT_ONCE + 1, 1 << 20] {
            let plain = Bytes::from("a".repeat(size));
            let encoded = Encoded::for_policy(&asking, plain.clone()).await;
            assert_eq!(encoded, Encoded::for_policy(&asking, plain.clone()).await, "{size}");
            assert!(encoded.bytes.len() < size / 2, "{size}: {}", encoded.bytes.len());
            assert_eq!(encoded.content_encoding, Some("gzip"));
            let mut decoded = Vec::new();
            GzDecoder::new(&*encoded.bytes).read_to_end(&mut decoded).unwrap();
            assert_eq!(decoded, plain);
        }
    }

    #[tokio::test]
    async fn any_other_body_is_sent_as_it_is() {
        let asking = policy(RequestMethod::Post, Some(Compression::Gzip));
        let mut noise = vec![0; 8192];
        SystemRandom.fill(&mut noise);
        for plain in [Bytes::from(vec![b'a'; bounds::COMPRESSED_ABOVE]), Bytes::from(noise)] {
            let encoded = Encoded::for_policy(&asking, plain.clone()).await;
            assert_eq!(encoded, Encoded::plain(plain));
        }
        let plain = Bytes::from(vec![b'a'; 8192]);
        assert_eq!(
            Encoded::for_policy(&Policy::default(), plain.clone()).await,
            Encoded::plain(plain.clone())
        );
        let get = policy(RequestMethod::Get, Some(Compression::Gzip));
        assert_eq!(Encoded::for_policy(&get, plain).await, Encoded::plain(Bytes::new()));
    }
}
