//! Tests of a KEK.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::custodian::audit::permit;

pub(super) fn kek(options: &KeyOptions) -> Kek {
    Kek::create(options, 1_000, permit()).expect("creates")
}

pub(super) fn of_type(key_type: KeyType) -> Kek {
    kek(&KeyOptions { key_type, derived: true, ..KeyOptions::default() })
}

/// Those that this build's library has.
pub(super) fn types() -> Vec<KeyType> {
    let has = |key_type: &KeyType| *key_type != KeyType::ChaCha20Poly1305 || cfg!(not(feature = "fips"));
    KeyType::ALL.into_iter().filter(has).collect()
}

fn version(number: u32) -> KekVersion {
    KekVersion::new(number).expect("not zero")
}

fn refused<T>(result: Result<T, KeyringError>) -> KeyringError {
    result.err().expect("is refused")
}

/// A KEK of versions 1 to `latest`.
fn rotated(latest: u32) -> Kek {
    let mut kek = kek(&KeyOptions::default());
    for number in 2..=latest {
        assert_eq!(kek.rotate(1_000 + i64::from(number), permit()).expect("rotates").number(), number);
    }
    kek
}

fn configure(kek: &mut Kek, min_decryption: Option<u32>, min_encryption: Option<u32>) -> Result<(), KeyringError> {
    let change = KeyChange {
        min_decryption_version: min_decryption,
        min_encryption_version: min_encryption,
        ..KeyChange::default()
    };
    kek.configure(&change, permit())
}

/// What [`KeyringError::BadChange`] is about.
fn bad_change(result: Result<(), KeyringError>) -> ChangeRefused {
    match result {
        Err(KeyringError::BadChange(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

fn name() -> KekName {
    KekName::new("records").expect("legal")
}

#[test]
fn what_was_encrypted_opens_under_the_same_key_context_and_data_only() {
    for key_type in types() {
        let (kek, other) = (of_type(key_type), of_type(key_type));
        let sealed = kek.encrypt(None, b"context", b"aad", b"record", permit()).expect("encrypts");
        assert_eq!(sealed.bytes().len(), 6 + crypto::SEAL_OVERHEAD);
        assert_eq!(kek.decrypt(&sealed, b"context", b"aad", permit()).expect("opens").as_slice(), b"record");
        let refuses = |kek: &Kek, context: &[u8], aad: &[u8]| {
            assert!(matches!(refused(kek.decrypt(&sealed, context, aad, permit())), KeyringError::NotAuthentic));
        };
        refuses(&other, b"context", b"aad");
        refuses(&kek, b"contexu", b"aad");
        refuses(&kek, b"contexta", b"ad");
        refuses(&kek, b"context", b"");
        refuses(&kek, b"context", b"aad\0");
    }
}

#[test]
fn no_flipped_bit_and_no_cut_opens() {
    for key_type in types() {
        let kek = of_type(key_type);
        let sealed = kek.encrypt(None, b"context", b"aad", b"record", permit()).expect("encrypts");
        for bit in 0..8 * sealed.bytes().len() {
            let mut bytes = sealed.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = Ciphertext::new(sealed.version(), bytes).expect("as long as before");
            let result = kek.decrypt(&flipped, b"context", b"aad", permit());
            assert!(matches!(refused(result), KeyringError::NotAuthentic), "{key_type:?} bit {bit}");
        }
        for cut in crypto::NONCE_LEN..sealed.bytes().len() {
            let cut = Ciphertext::new(sealed.version(), sealed.bytes()[..cut].to_vec()).expect("long enough");
            let result = kek.decrypt(&cut, b"context", b"aad", permit());
            assert!(matches!(refused(result), KeyringError::NotAuthentic));
        }
    }
}

#[test]
fn a_ciphertext_opens_under_its_own_version_only() {
    let kek = rotated(3);
    let sealed = kek.encrypt(Some(version(2)), b"", b"", b"record", permit()).expect("encrypts");
    assert_eq!(sealed.version(), version(2));
    for number in [1, 3] {
        let moved = Ciphertext::new(version(number), sealed.bytes().to_vec()).expect("as long as before");
        assert!(matches!(refused(kek.decrypt(&moved, b"", b"", permit())), KeyringError::NotAuthentic));
    }
    let beyond = Ciphertext::new(version(4), sealed.bytes().to_vec()).expect("as long as before");
    assert!(matches!(refused(kek.decrypt(&beyond, b"", b"", permit())), KeyringError::VersionUnknown));
}

/// Opens `text` with a KEK whose first version is `key`: context `context`, associated data `aad`, plaintext `record`.
fn opens(key_type: KeyType, key: &[u8], text: &str) {
    let mut kek = of_type(key_type);
    let key = Material::from_slice(key_type, key).expect("of its length");
    kek.versions.insert(KekVersion::FIRST, Version { created_unix_s: 0, key });
    let opened = kek.decrypt(&Ciphertext::parse(text).expect("a ciphertext"), b"context", b"aad", permit());
    assert_eq!(opened.expect("opens").as_slice(), b"record", "{key_type:?}");
}

/// Computed by the formula with Python's `hmac` and `cryptography`: version key `00 01 …`, nonce `24 24 …`.
#[test]
fn derivation_and_encryption_are_those_of_the_formula() {
    let known = [
        (KeyType::Aes256Gcm96, "vault:v1:JCQkJCQkJCQkJCQkEkWjxrfG9wec5Xis+3UjnYYoO8jOFA=="),
        (KeyType::Aes128Gcm96, "vault:v1:JCQkJCQkJCQkJCQkOP02X9w0NRWZj/SpOAR4s99bqpdlvg=="),
        (KeyType::ChaCha20Poly1305, "vault:v1:JCQkJCQkJCQkJCQkce9tznLBifbo8zf1a9Rx5FDTJOkTzQ=="),
    ];
    for (key_type, text) in known.into_iter().filter(|(key_type, _)| types().contains(key_type)) {
        let key: Vec<u8> = (0..if key_type == KeyType::Aes128Gcm96 { 16 } else { 32 }).collect();
        opens(key_type, &key, text);
    }
}

/// Keys that OpenBao 2.7.2 made, encrypted under and exported.
#[test]
fn what_openbao_encrypted_opens_with_its_exported_keys() {
    let known = [
        (
            KeyType::Aes256Gcm96,
            "KkQlcfwhR8JeY1fkATstpj3L87GTfS3N7T9m6ZPKtTE=",
            "vault:v1:bRQnqejyBWzUD+zidQudKC4l7OJNTo/Q5vuIy3wFIQBrxw==",
        ),
        (KeyType::Aes128Gcm96, "hva6eSv5121/NfLF2VqWTg==", "vault:v1:iUYoKHK9LuJsiOD04noEYu9Rzz7r+z4fCIYCiJOuZXHCAA=="),
        (
            KeyType::ChaCha20Poly1305,
            "QyrMCtENU+njzPRj0SzMV8UpjmN1/AlxT1AgvTQn/G0=",
            "vault:v1:3RqPlTJVfZUGEUMpjybm3pm4oLHygZhggxgS97UMwJ7OmQ==",
        ),
    ];
    for (key_type, key, text) in known.into_iter().filter(|(key_type, ..)| types().contains(key_type)) {
        opens(key_type, &STANDARD.decode(key).expect("base64"), text);
    }
}

#[cfg(feature = "fips")]
#[test]
fn a_kek_of_an_algorithm_that_fips_140_lacks_is_not_made_and_one_that_was_there_is_not_used() {
    let options = KeyOptions { key_type: KeyType::ChaCha20Poly1305, ..KeyOptions::default() };
    assert!(matches!(refused(Kek::create(&options, 1_000, permit())), KeyringError::NotApproved(_)));
    let mut kek = kek(&KeyOptions::default());
    kek.key_type = KeyType::ChaCha20Poly1305;
    let key = Material::from_slice(KeyType::ChaCha20Poly1305, &[7; 32]).expect("of its length");
    kek.versions.insert(KekVersion::FIRST, Version { created_unix_s: 0, key });
    let mut kek = Kek::parse(&kek.to_bytes()).expect("parses");
    let sealed = Ciphertext::new(KekVersion::FIRST, vec![0; 34]).expect("long enough");
    assert!(matches!(refused(kek.encrypt(None, b"", b"", b"record", permit())), KeyringError::NotApproved(_)));
    assert!(matches!(refused(kek.decrypt(&sealed, b"", b"", permit())), KeyringError::NotApproved(_)));
    assert!(matches!(refused(kek.rotate(2_000, permit())), KeyringError::NotApproved(_)));
    assert_eq!(kek.latest(), KekVersion::FIRST);
}

#[test]
fn a_derived_kek_needs_a_context_and_another_takes_no_notice_of_it() {
    let derived = of_type(KeyType::Aes256Gcm96);
    assert!(matches!(refused(derived.encrypt(None, b"", b"", b"record", permit())), KeyringError::MissingContext));
    let sealed = derived.encrypt(None, b"context", b"", b"record", permit()).expect("encrypts");
    assert!(matches!(refused(derived.decrypt(&sealed, b"", b"", permit())), KeyringError::MissingContext));
    let generated = derived.generate(DataKeyLen::Bits256, None, b"", b"", permit());
    assert!(matches!(refused(generated), KeyringError::MissingContext));

    let plain = kek(&KeyOptions::default());
    let sealed = plain.encrypt(None, b"one", b"", b"record", permit()).expect("encrypts");
    assert!(plain.decrypt(&sealed, b"another", b"", permit()).is_ok());
}

#[test]
fn data_keys_have_their_length_and_differ() {
    let kek = rotated(2);
    for (bits, length) in [(128, 16), (256, 32), (512, 64)] {
        let data_key_len = DataKeyLen::from_bits(bits).expect("one of them");
        let (key, sealed) = kek.generate(data_key_len, None, b"", b"aad", permit()).expect("generates");
        assert_eq!((key.len(), sealed.version()), (length, version(2)));
        assert_eq!(*kek.decrypt(&sealed, b"", b"aad", permit()).expect("opens"), *key);
        let (other, old) = kek.generate(data_key_len, Some(version(1)), b"", b"aad", permit()).expect("generates");
        assert_ne!(*other, *key);
        assert_eq!(old.version(), version(1));
    }
    assert_eq!([0, 64, 257].map(DataKeyLen::from_bits), [None; 3]);
}

#[test]
fn rewrapping_moves_to_the_newest_or_the_named_version() {
    let kek = rotated(3);
    let sealed = kek.encrypt(Some(version(1)), b"", b"aad", b"record", permit()).expect("encrypts");
    for (to, number) in [(None, 3), (Some(version(2)), 2)] {
        let moved = kek.rewrap(&sealed, to, b"", b"aad", permit()).expect("rewraps");
        assert_eq!(moved.version(), version(number));
        assert_eq!(kek.decrypt(&moved, b"", b"aad", permit()).expect("opens").as_slice(), b"record");
    }
    assert!(matches!(refused(kek.rewrap(&sealed, None, b"", b"axd", permit())), KeyringError::NotAuthentic));
    assert!(matches!(
        refused(kek.rewrap(&sealed, Some(version(4)), b"", b"aad", permit())),
        KeyringError::VersionUnknown
    ));
}

#[test]
fn lengths_are_bounded_and_the_longest_go_through() {
    let kek = of_type(KeyType::Aes256Gcm96);
    let (plaintext, context, aad) = (vec![1; PLAINTEXT_MAX], vec![2; CONTEXT_MAX], vec![3; AAD_MAX]);
    let sealed = kek.encrypt(None, &context, &aad, &plaintext, permit()).expect("fits");
    assert_eq!(sealed.bytes().len(), CIPHERTEXT_MAX);
    let parsed = Ciphertext::parse(&sealed.to_text()).expect("fits");
    assert_eq!(*kek.decrypt(&parsed, &context, &aad, permit()).expect("fits"), plaintext);
    let part = |plaintext: usize, context: usize, aad: usize| match refused(kek.encrypt(
        None,
        &vec![2; context],
        &vec![3; aad],
        &vec![1; plaintext],
        permit(),
    )) {
        KeyringError::TooLong(part) => part,
        other => panic!("{other:?}"),
    };
    assert_eq!(part(PLAINTEXT_MAX + 1, 1, 0), Part::Plaintext);
    assert_eq!(part(1, CONTEXT_MAX + 1, 0), Part::Context);
    assert_eq!(part(1, 1, AAD_MAX + 1), Part::AssociatedData);
    let result = kek.decrypt(&sealed, &vec![2; CONTEXT_MAX + 1], &aad, permit());
    assert!(matches!(refused(result), KeyringError::TooLong(Part::Context)));
    // Nothing to encrypt is something to authenticate.
    let empty = kek.encrypt(None, &context, b"aad", b"", permit()).expect("encrypts");
    assert!(kek.decrypt(&empty, &context, b"aad", permit()).expect("opens").is_empty());
}

#[test]
fn minimum_versions_bound_what_opens_and_what_encrypts() {
    let mut kek = rotated(4);
    let encrypt =
        |kek: &Kek, number: u32| kek.encrypt(Some(version(number)), b"", b"", b"record", permit()).map(|_| ());
    let old = kek.encrypt(Some(version(1)), b"", b"", b"record", permit()).expect("no minimum is set");
    configure(&mut kek, Some(2), Some(3)).expect("in order");
    assert!(matches!(refused(kek.decrypt(&old, b"", b"", permit())), KeyringError::VersionTooOld));
    assert!(matches!(refused(kek.rewrap(&old, None, b"", b"", permit())), KeyringError::VersionTooOld));
    assert!(matches!(refused(encrypt(&kek, 1)), KeyringError::VersionNotForEncryption));
    assert!(matches!(refused(encrypt(&kek, 2)), KeyringError::VersionNotForEncryption));
    assert!(encrypt(&kek, 3).is_ok() && encrypt(&kek, 4).is_ok());
    assert!(matches!(refused(encrypt(&kek, 5)), KeyringError::VersionUnknown));
    // Without a minimum of its own, encryption still does not make what would not open.
    configure(&mut kek, None, Some(0)).expect("not trimmed yet");
    assert!(matches!(refused(encrypt(&kek, 1)), KeyringError::VersionNotForEncryption));
    assert!(encrypt(&kek, 2).is_ok());
    configure(&mut kek, Some(0), None).expect("means 1");
    assert_eq!(kek.info(&name()).min_decryption, 1);
    assert!(kek.decrypt(&old, b"", b"", permit()).is_ok());
}

#[test]
fn a_configuration_out_of_order_is_refused_whole() {
    let mut kek = rotated(3);
    configure(&mut kek, Some(2), Some(2)).expect("in order");
    let before = kek.to_bytes();
    assert_eq!(
        bad_change(configure(&mut kek, Some(4), None)),
        ChangeRefused::MinDecryptionAboveLatest { asked: 4, latest: 3 }
    );
    assert_eq!(
        bad_change(configure(&mut kek, None, Some(4))),
        ChangeRefused::MinEncryptionAboveLatest { asked: 4, latest: 3 }
    );
    let below = |min_encryption, min_decryption| ChangeRefused::MinEncryptionBelowMinDecryption {
        min_encryption,
        min_decryption,
    };
    assert_eq!(bad_change(configure(&mut kek, None, Some(1))), below(1, 2));
    assert_eq!(bad_change(configure(&mut kek, Some(3), None)), below(2, 3));
    let period = |auto_rotate_period_s| KeyChange {
        auto_rotate_period_s: Some(auto_rotate_period_s),
        deletion_allowed: Some(true),
        exportable: Some(true),
        allow_plaintext_backup: Some(true),
        ..KeyChange::default()
    };
    for short in [1, AUTO_ROTATE_MIN_S - 1] {
        assert_eq!(bad_change(kek.configure(&period(short), permit())), ChangeRefused::AutoRotatePeriod);
        let options = KeyOptions { auto_rotate_period_s: short, ..KeyOptions::default() };
        assert!(matches!(Kek::create(&options, 0, permit()), Err(KeyringError::BadChange(_))));
    }
    assert_eq!(*kek.to_bytes(), *before);
    kek.configure(&period(AUTO_ROTATE_MIN_S), permit()).expect("an hour");
    kek.configure(&period(0), permit()).expect("none");
}

#[test]
fn flags_that_let_the_key_out_cannot_be_taken_back() {
    let mut kek = rotated(1);
    let all = |set| KeyChange {
        deletion_allowed: Some(set),
        exportable: Some(set),
        allow_plaintext_backup: Some(set),
        ..KeyChange::default()
    };
    assert!(matches!(kek.deletable(), Err(KeyringError::DeletionNotAllowed)));
    kek.configure(&all(true), permit()).expect("sets");
    assert!(kek.deletable().is_ok());
    kek.configure(&all(false), permit()).expect("changes nothing but deletion");
    let info = kek.info(&name());
    assert_eq!((info.deletion_allowed, info.exportable, info.allow_plaintext_backup), (false, true, true));
}

#[test]
fn grave_changes_are_told_from_others() {
    let mut kek = rotated(3);
    configure(&mut kek, Some(2), None).expect("in order");
    let plain = KeyChange {
        min_encryption_version: Some(3),
        auto_rotate_period_s: Some(AUTO_ROTATE_MIN_S),
        deletion_allowed: Some(false),
        exportable: Some(false),
        allow_plaintext_backup: Some(false),
        min_decryption_version: Some(2),
    };
    assert!(!plain.is_grave_for(&kek) && !KeyChange::default().is_grave_for(&kek));
    let grave = [
        KeyChange { min_decryption_version: Some(3), ..plain.clone() },
        KeyChange { min_decryption_version: Some(0), ..plain.clone() },
        KeyChange { deletion_allowed: Some(true), ..plain.clone() },
        KeyChange { exportable: Some(true), ..plain.clone() },
        KeyChange { allow_plaintext_backup: Some(true), ..plain.clone() },
    ];
    for change in grave {
        assert!(change.is_grave_for(&kek), "{change:?}");
        kek.configure(&change, permit()).expect("in order");
        assert!(!change.is_grave_for(&kek), "is so already: {change:?}");
    }
    let refused = KeyChange { min_decryption_version: Some(4), ..KeyChange::default() };
    assert!(!refused.is_grave_for(&kek) && kek.configure(&refused, permit()).is_err());
}

#[test]
fn trimming_follows_its_rules_and_erases_the_keys() {
    let mut kek = rotated(4);
    let keys: Vec<Vec<u8>> = kek.versions.values().map(|version| version.key.expose().to_vec()).collect();
    let trim = |kek: &mut Kek, min_available| {
        let refused = bad_change(kek.trim(min_available, permit()));
        assert_eq!(kek.trimmable(min_available), Err(refused));
        refused
    };
    assert_eq!(trim(&mut kek, 1), ChangeRefused::AvailableWithoutMinEncryption);
    configure(&mut kek, Some(2), Some(3)).expect("in order");
    assert_eq!(trim(&mut kek, 4), ChangeRefused::AvailableAboveMinEncryption);
    assert_eq!(trim(&mut kek, 3), ChangeRefused::AvailableAboveMinDecryption);
    assert_eq!(trim(&mut kek, 0), ChangeRefused::AvailableZero);
    configure(&mut kek, Some(3), Some(3)).expect("in order");
    let holds = |kek: &Kek| {
        let bytes = kek.to_bytes();
        keys.iter().map(|key| memchr::memmem::find(&bytes, key).is_some()).collect::<Vec<_>>()
    };
    assert_eq!(holds(&kek), [true; 4]);
    assert_eq!(kek.trimmable(3), Ok(()));
    kek.trim(3, permit()).expect("in order");
    assert_eq!(holds(&kek), [false, false, true, true]);
    assert_eq!(trim(&mut kek, 2), ChangeRefused::AvailableDecremented);
    let info = kek.info(&name());
    assert_eq!((info.min_available, info.latest), (3, version(4)));
    assert_eq!(info.versions, [(version(3), 1_003), (version(4), 1_004)]);

    // What was trimmed does not come back by way of the configuration.
    assert_eq!(bad_change(configure(&mut kek, None, Some(0))), ChangeRefused::MinEncryptionBelowAvailable);
    assert_eq!(bad_change(configure(&mut kek, Some(2), None)), ChangeRefused::MinDecryptionBelowAvailable);
    let parsed = Kek::parse(&kek.to_bytes()).expect("parses");
    assert_eq!(parsed.info(&name()), kek.info(&name()));
    assert_eq!(kek.rotate(0, permit()).expect("rotates"), version(5));
}

#[test]
fn switched_off_or_set_aside_it_does_nothing() {
    let mut kek = rotated(2);
    let sealed = kek.encrypt(None, b"", b"", b"record", permit()).expect("encrypts");
    let all = |kek: &mut Kek| {
        [
            kek.encrypt(None, b"", b"", b"record", permit()).err(),
            kek.decrypt(&sealed, b"", b"", permit()).err(),
            kek.rewrap(&sealed, None, b"", b"", permit()).err(),
            kek.generate(DataKeyLen::Bits128, None, b"", b"", permit()).err(),
            kek.rotate(0, permit()).err(),
        ]
    };
    kek.set_disabled(true, permit());
    assert!(all(&mut kek).iter().all(|error| matches!(error, Some(KeyringError::Disabled))));
    configure(&mut kek, Some(2), Some(2)).expect("can be configured");
    kek.trim(2, permit()).expect("can be trimmed");
    kek.set_soft_deleted(true, permit());
    kek.set_disabled(false, permit());
    assert!(all(&mut kek).iter().all(|error| matches!(error, Some(KeyringError::SoftDeleted))));
    kek.set_soft_deleted(false, permit());
    assert!(all(&mut kek).iter().all(Option::is_none));
}

#[test]
fn versions_are_bounded_but_trimming_makes_room() {
    let mut kek = rotated(1);
    while kek.versions.len() < VERSIONS_MAX {
        kek.rotate(0, permit()).expect("rotates");
    }
    assert!(matches!(refused(kek.rotate(0, permit())), KeyringError::TooMany));
    assert_eq!(kek.latest().number(), 1_000);
    assert!(Kek::parse(&kek.to_bytes()).is_ok());
    configure(&mut kek, Some(2), Some(2)).expect("in order");
    kek.trim(2, permit()).expect("in order");
    assert_eq!(kek.rotate(0, permit()).expect("rotates").number(), 1_001);
}

#[test]
fn rotation_falls_due_after_its_period() {
    let mut kek = kek(&KeyOptions { auto_rotate_period_s: AUTO_ROTATE_MIN_S, ..KeyOptions::default() });
    let due = |kek: &Kek, after: i64| kek.is_rotation_due(1_000 + after);
    // A clock that was set back makes nothing due.
    assert!(!due(&kek, -100_000) && !due(&kek, 3_599) && due(&kek, 3_600));
    kek.rotate(1_000 + 3_600, permit()).expect("rotates");
    assert!(!due(&kek, 3_600) && due(&kek, 7_200));
    kek.set_soft_deleted(true, permit());
    assert!(!due(&kek, 7_200));
    kek.set_soft_deleted(false, permit());
    kek.configure(&KeyChange { auto_rotate_period_s: Some(0), ..KeyChange::default() }, permit()).expect("none");
    assert!(!due(&kek, i64::MAX - 1_000));
}
