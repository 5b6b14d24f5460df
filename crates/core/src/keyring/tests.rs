//! Sealing, rotation, and data that must not open.

use super::*;
use crate::SystemRandom;
use proptest::prelude::*;
use uuid::Uuid;

fn key(byte: u8) -> String {
    STANDARD.encode([byte; KEY_BYTES])
}

fn keyring(bytes: &[u8]) -> Keyring {
    let keys: Vec<String> = bytes.iter().map(|&byte| key(byte)).collect();
    Keyring::parse(&keys.join(",")).unwrap()
}

fn subscriber(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

#[test]
fn a_list_of_keys_is_parsed() {
    let unpadded = key(1).trim_end_matches('=').to_owned();
    let generated = Keyring::generate_key(&SystemRandom);
    for text in [&key(1), &unpadded, &format!(" {} ,\n{} ", key(1), key(2)), &*generated] {
        assert!(Keyring::parse(text).is_ok(), "{text}");
    }
    for (text, error) in [
        (String::new(), KeyringError::Empty),
        (" \n".into(), KeyringError::Empty),
        ("not base64!".into(), KeyringError::Malformed(1)),
        (format!("{},", key(1)), KeyringError::Length { place: 2, bytes: 0 }),
        (STANDARD.encode([1; 31]), KeyringError::Length { place: 1, bytes: 31 }),
        (format!("{},{}", key(1), STANDARD.encode([2; 33])), KeyringError::Length { place: 2, bytes: 33 }),
        (format!("{},{},{}", key(1), key(2), key(1)), KeyringError::Repeated(3)),
    ] {
        assert_eq!(Keyring::parse(&text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn debug_shows_key_ids_and_no_key() {
    let shown = format!("{:?}", keyring(&[1, 2]));
    assert!(shown.contains(&keyring(&[1]).current.id.to_string()), "{shown}");
    assert!(!shown.contains(&key(1)) && !shown.contains(&"01".repeat(4)), "{shown}");
}

// A later version must open this data. Computed independently with Python's `cryptography`.
#[test]
fn the_layout_of_sealed_data_is_stable() {
    struct Counting;
    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            (0..).zip(bytes).for_each(|(number, byte)| *byte = number);
        }
    }
    let tenant = TenantId::default();
    let context = SealContext { tenant: &tenant, id: subscriber(7), purpose: Purpose::Headers };
    let sealed = keyring(&[1]).seal(&Counting, &context, b"plain").unwrap();
    let expected = "01d7f41e07000102030405060708090a0bcbcaf44f4eca475d63500a8ae09ddb32cfb5ae45ca";
    assert_eq!(hex::encode(sealed), expected);
}

#[test]
fn a_key_can_be_rotated() {
    let tenant = TenantId::default();
    let context = SealContext { tenant: &tenant, id: subscriber(1), purpose: Purpose::Secret };
    let old = keyring(&[1]).seal(&SystemRandom, &context, b"plain").unwrap();

    let both = keyring(&[2, 1]);
    assert!(!both.is_current(&old));
    assert_eq!(*both.open(&context, &old).unwrap(), b"plain");
    let new = both.reseal(&SystemRandom, &context, &old).unwrap().unwrap();
    assert!(both.is_current(&new));
    assert_eq!(both.reseal(&SystemRandom, &context, &new), Ok(None));

    let after = keyring(&[2]);
    assert_eq!(*after.open(&context, &new).unwrap(), b"plain");
    let error = after.open(&context, &old).unwrap_err();
    assert_eq!(error, KeyringError::UnknownKey(keyring(&[1]).current.id));
}

#[test]
fn sealing_twice_gives_different_data() {
    let tenant = TenantId::default();
    let context = SealContext { tenant: &tenant, id: subscriber(1), purpose: Purpose::Secret };
    let seal = || keyring(&[1]).seal(&SystemRandom, &context, b"plain").unwrap();
    assert_ne!(seal(), seal());
}

fn any_purpose() -> impl Strategy<Value = Purpose> {
    prop::sample::select(vec![Purpose::Secret, Purpose::PreviousSecret, Purpose::Headers])
}

fn any_tenant() -> impl Strategy<Value = TenantId> {
    "[a-z0-9_-]{1,64}".prop_map(|text| text.parse().unwrap())
}

proptest! {
    #[test]
    fn sealed_data_opens_only_in_its_own_context(
        plain: Vec<u8>,
        tenant in any_tenant(), number: u128, purpose in any_purpose(),
        other_tenant in any_tenant(), other_number: u128, other_purpose in any_purpose(),
    ) {
        let keyring = keyring(&[1]);
        let context = SealContext { tenant: &tenant, id: subscriber(number), purpose };
        let sealed = keyring.seal(&SystemRandom, &context, &plain).unwrap();
        prop_assert_eq!(&*keyring.open(&context, &sealed).unwrap(), &plain);

        let others = [
            SealContext { tenant: &other_tenant, ..context },
            SealContext { id: subscriber(other_number), ..context },
            SealContext { purpose: other_purpose, ..context },
        ];
        for other in others.into_iter().filter(|other| *other != context) {
            prop_assert_eq!(keyring.open(&other, &sealed).unwrap_err(), KeyringError::Tampered);
        }
    }

    #[test]
    fn changed_or_truncated_data_does_not_open(
        plain in prop::collection::vec(any::<u8>(), 0..80),
        place: prop::sample::Index, bit in 0..8_u8, end: prop::sample::Index,
    ) {
        let tenant = TenantId::default();
        let context = SealContext { tenant: &tenant, id: subscriber(1), purpose: Purpose::Secret };
        let keyring = keyring(&[1, 2]);
        let sealed = keyring.seal(&SystemRandom, &context, &plain).unwrap();

        let mut changed = sealed.clone();
        let place = place.index(sealed.len());
        changed[place] ^= 1 << bit;
        let error = keyring.open(&context, &changed).unwrap_err();
        let expected = match place {
            0 => matches!(error, KeyringError::Version(_)),
            1..NONCE_AT => matches!(error, KeyringError::UnknownKey(_)),
            _ => error == KeyringError::Tampered,
        };
        prop_assert!(expected, "{}: {:?}", place, error);

        let end = end.index(sealed.len());
        let error = keyring.open(&context, &sealed[..end]).unwrap_err();
        let short = end < HEAD + AES_256_GCM.tag_len();
        prop_assert_eq!(error, if short { KeyringError::Truncated } else { KeyringError::Tampered });
    }

    #[test]
    fn random_bytes_do_not_open(bytes: Vec<u8>) {
        let tenant = TenantId::default();
        let context = SealContext { tenant: &tenant, id: subscriber(1), purpose: Purpose::Secret };
        prop_assert!(keyring(&[1]).open(&context, &bytes).is_err());
        let _ = keyring(&[1]).is_current(&bytes);
    }

    #[test]
    fn different_contexts_have_different_encodings(
        tenant in any_tenant(), number: u128, purpose in any_purpose(),
        other_tenant in any_tenant(), other_number: u128, other_purpose in any_purpose(),
    ) {
        let one = SealContext { tenant: &tenant, id: subscriber(number), purpose };
        let other = SealContext { tenant: &other_tenant, id: subscriber(other_number), purpose: other_purpose };
        prop_assert_eq!(one == other, one.encode() == other.encode());
    }
}
