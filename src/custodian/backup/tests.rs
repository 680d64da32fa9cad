//! Backups that are whole, and backups and shares that are not.

use proptest::prelude::*;

use super::*;
use crate::custodian::audit::permit;
use crate::custodian::kek::{KeyOptions, Labels};
use crate::names::BranchId;

struct Officer {
    identities: Identities,
    recipient: String,
}

fn officers(count: usize) -> Vec<Officer> {
    let officer = |_| {
        let NewIdentity { file, recipient } = new_identity();
        Officer { identities: Identities::parse(&file).expect("is one"), recipient }
    };
    (0..count).map(officer).collect()
}

fn audience(officers: &[Officer], threshold: u64) -> Audience {
    Audience::new(officers.iter().map(|one| one.recipient.as_str()), threshold).expect("is one")
}

fn name(text: &str) -> KekName {
    KekName::new(text).expect("legal")
}

/// A backup of two KEKs, and those.
fn backup(officers: &[Officer], threshold: u64) -> (String, [Kek; 2]) {
    let labels = Labels::new([("jurisdiction".to_owned(), "us".to_owned())].into()).expect("legal");
    let options = KeyOptions { derived: true, labels, ..KeyOptions::default() };
    let mut one = Kek::create(&options, 1_800_000_000, permit()).expect("random");
    one.rotate(1_800_000_001, permit()).expect("rotates");
    one.set_disabled(true, permit());
    let two = Kek::create(&KeyOptions::default(), 1_800_000_002, permit()).expect("random");
    let (first, second) = (name("a-records"), name("b-records"));
    let ledger = |keys: u8| LedgerSum::of(1_800_000_000, (0..keys).map(|key| (BranchId::from_bytes([key; 16]), 5)));
    let keks = [
        BackedUp { name: &first, kek: &one, ledger_rows: 7, ledger: ledger(3) },
        BackedUp { name: &second, kek: &two, ledger_rows: 0, ledger: ledger(0) },
    ];
    let (text, note) = make(&keks, &audience(officers, threshold), "custodian-1", 1_800_000_003).expect("makes");
    assert_eq!(BackupNote::parse(&note.to_bytes()).as_ref(), Ok(&note));
    assert_eq!(Backup::parse(&text).expect("parses").note(), &note);
    (text, [one, two])
}

fn opened(backup: &Backup, officers: &[&Officer]) -> Vec<Zeroizing<String>> {
    let open = |officer: &&Officer| open_share(backup.shares().map(|(_, share)| share), &officer.identities);
    officers.iter().map(open).collect::<Result<_, _>>().expect("each has a share")
}

fn read<'s>(backup: &Backup, shares: impl IntoIterator<Item = &'s str>) -> Result<Vec<Share>, BackupRefused> {
    let shares = backup.read_shares(shares)?;
    backup.need_enough(&shares.iter().collect::<Vec<_>>()).map(|()| shares)
}

fn open(backup: &Backup, shares: &[&Share]) -> Result<Opened, BackupRefused> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("builds");
    runtime.block_on(backup.open(shares))
}

fn keks(backup: &Backup, shares: &[Zeroizing<String>]) -> Result<Vec<Restorable>, BackupRefused> {
    let shares = read(backup, shares.iter().map(|share| share.as_str()))?;
    let opened = open(backup, &shares.iter().collect::<Vec<_>>())?;
    assert_eq!(opened.stray, [0; 0], "all are right");
    Ok(opened.keks)
}

#[test]
fn any_threshold_of_officers_open_it_and_it_is_what_was_backed_up() {
    let officers = officers(3);
    let (text, before) = backup(&officers, 2);
    let backup = Backup::parse(&text).expect("parses");
    for some in [[0, 1], [1, 2], [2, 0]] {
        let shares = opened(&backup, &some.map(|at| &officers[at]));
        let after = keks(&backup, &shares).expect("opens");
        for (before, after) in before.iter().zip(&after) {
            let mut marked = Kek::parse(&before.to_bytes()).expect("parses");
            marked.mark_restored();
            assert_eq!(*marked.to_bytes(), *after.kek().to_bytes(), "all of it: settings, labels, state, keys");
        }
    }
    let all = opened(&backup, &officers.iter().collect::<Vec<_>>());
    assert_eq!(keks(&backup, &all).expect("more than enough").len(), 2);
    // White space and the order of fields are not what was approved.
    let value: Value = serde_json::from_str(&text).expect("JSON");
    let pretty = Backup::parse(&serde_json::to_string_pretty(&value).expect("JSON")).expect("parses");
    assert_eq!(pretty.sha256(), backup.sha256());
    assert_eq!(backup.ledger_rows().collect::<Vec<_>>(), [("a-records", 7), ("b-records", 0)]);
    let ledgers: Vec<_> = backup.ledgers().map(|(kek, sum)| (kek, sum.map(|sum| sum.branch_keys()))).collect();
    assert_eq!(ledgers, [("a-records", Some(3)), ("b-records", Some(0))]);
    for secret in before.iter().map(Kek::to_bytes) {
        assert!(!text.contains(&STANDARD.encode(&secret[secret.len() - 32..])));
    }
}

#[test]
fn shares_that_are_too_few_doubled_foreign_or_mistyped_open_nothing() {
    let officers = officers(3);
    let (text, _) = backup(&officers, 3);
    let one = Backup::parse(&text).expect("parses");
    let other = Backup::parse(&backup(&officers, 3).0).expect("parses");
    let shares = opened(&one, &officers.iter().collect::<Vec<_>>());
    let refused = |texts: &[&str]| read(&one, texts.iter().copied()).err();
    let [a, b, c] = [0, 1, 2].map(|at| shares[at].as_str());
    assert_eq!(refused(&[a, b]), Some(BackupRefused::TooFewShares { given: 2, threshold: 3 }));
    assert_eq!(refused(&[a, b, b]), Some(BackupRefused::SameShare(3)));
    let foreign = opened(&other, &[&officers[2]]);
    assert_eq!(refused(&[a, b, &foreign[0]]), Some(BackupRefused::Share(3)));
    let slip = if a.ends_with('A') { format!("{}B", &a[..71]) } else { format!("{}A", &a[..71]) };
    for bad in ["", "x", &slip, &a[..71]] {
        assert_eq!(refused(&[bad, b, c]), Some(BackupRefused::Share(1)), "{bad}");
    }
    // Shares of the right form and the wrong key: of another backup under this one's id.
    let mut head: Value = serde_json::from_str(&text).expect("JSON");
    let stranger: Value = serde_json::from_str(&backup(&officers, 3).0).expect("JSON");
    head["bundle"] = stranger["bundle"].clone();
    let swapped = Backup::parse(&head.to_string()).expect("parses");
    assert_eq!(keks(&swapped, &shares).err(), Some(BackupRefused::NotAuthentic));
    let nobody = Identities::parse(&new_identity().file).expect("is one");
    assert_eq!(open_share(one.shares().map(|(_, share)| share), &nobody).err(), Some(ShareRefused::NotForIt));
}

#[test]
fn wrong_shares_are_told_from_right_ones_wherever_they_stand() {
    let officers = officers(5);
    let (text, _) = backup(&officers, 3);
    let backup = Backup::parse(&text).expect("parses");
    let right = opened(&backup, &officers.iter().collect::<Vec<_>>());
    let right = read(&backup, right.iter().map(|share| share.as_str())).expect("are shares");
    let wrong: Vec<Share> = right.iter().map(share::forged).collect();
    // 1 to 5 are the right shares, -1 to -5 the wrong ones of those numbers.
    let pick = |number: i8| if number > 0 { &right[number as usize - 1] } else { &wrong[-number as usize - 1] };
    let found = |numbers: &[i8]| {
        let shares: Vec<&Share> = numbers.iter().map(|number| pick(*number)).collect();
        backup.need_enough(&shares)?;
        open(&backup, &shares).map(|opened| (opened.keks.len(), opened.stray))
    };
    for (numbers, at) in [
        (&[1, 2, 3][..], &[][..]),
        (&[-1, 1, 2, 3], &[0]),
        (&[1, -1, 2, 3], &[1]),
        (&[1, 2, 3, -3], &[3]),
        (&[-1, -2, 3, 4, 5], &[0, 1]),
        (&[-4, -3, -2, -1, 4, 3, 2], &[0, 1, 2, 3]),
        // The same right one from two officers.
        (&[5, 5, -1, 2, 3], &[2]),
    ] {
        assert_eq!(found(numbers), Ok((2, at.to_vec())), "{numbers:?}");
    }
    for numbers in [&[1, 2, -3][..], &[-1, -2, -3, -4, -5], &[1, -2, -3, -4, -5, 5]] {
        assert_eq!(found(numbers), Err(BackupRefused::NotAuthentic), "{numbers:?}");
    }
    for numbers in [&[1, 2][..], &[1, -1, 2, -2, 2]] {
        assert_eq!(found(numbers), Err(BackupRefused::TooFewShares { given: 2, threshold: 3 }), "{numbers:?}");
    }
}

#[test]
fn shares_that_were_made_to_fit_each_other_open_it_and_do_not_outvote_the_right_ones() {
    let officers = officers(5);
    let backup = Backup::parse(&backup(&officers, 3).0).expect("parses");
    let right = opened(&backup, &officers.iter().collect::<Vec<_>>());
    let right = read(&backup, right.iter().map(|share| share.as_str())).expect("are shares");
    let key = share::combine(&right[..3]).expect("combines");
    let seal = backup.note().seal_id().expect("has one");
    let made = share::split(seal, 3, 5, &key).expect("splits");
    let found = |shares: &[&Share]| open(&backup, shares).map(|opened| (opened.keks.len(), opened.stray));
    let [one, two, three] = [&made[0], &made[1], &made[2]];
    assert_eq!(found(&[one, two, three, &right[0], &right[1], &right[3], &right[4]]), Ok((2, vec![0, 1, 2])));
    assert_eq!(
        found(&[one, two, three, &right[3], &right[4]]),
        Ok((2, vec![3, 4])),
        "and nobody says that these are wrong"
    );
}

#[test]
fn the_most_wrong_shares_that_there_can_be_are_gone_through() {
    let officers = officers(RECIPIENTS_MAX);
    let backup = Backup::parse(&backup(&officers, 8).0).expect("parses");
    let right = opened(&backup, &officers.iter().collect::<Vec<_>>());
    let right = read(&backup, right.iter().map(|share| share.as_str())).expect("are shares");
    let wrong: Vec<Share> = right.iter().map(share::forged).collect();
    let shares: Vec<&Share> = wrong[..8].iter().chain(&right[8..]).collect();
    assert_eq!(open(&backup, &shares).map(|opened| opened.stray), Ok((0..8).collect()));
}

#[test]
fn a_field_that_was_changed_is_found() {
    let officers = officers(3);
    let (text, _) = backup(&officers, 2);
    let shares = opened(&Backup::parse(&text).expect("parses"), &[&officers[0], &officers[1]]);
    let changes: [(&str, Value); 12] = [
        ("/threshold", 3.into()),
        ("/made", "2030-01-01T00:00:00Z".into()),
        ("/instance", "custodian-2".into()),
        ("/keks/0/name", "c-records".into()),
        ("/keks/0/versions", json!([2])),
        ("/keks/0/labels", json!([])),
        ("/keks/0/ledger_rows", 8.into()),
        ("/keks/0/ledger/branch_keys", 2.into()),
        ("/keks/0/ledger/ids_sha256", "00".repeat(32).into()),
        ("/shares/0/recipient", officers[0].recipient.replace("age1", "age2").into()),
        ("/shares/2/share", "".into()),
        ("/id", "00".repeat(16).into()),
    ];
    for (field, value) in changes {
        let mut changed: Value = serde_json::from_str(&text).expect("JSON");
        *changed.pointer_mut(field).expect("is there") = value;
        let opened = Backup::parse(&changed.to_string()).and_then(|backup| keks(&backup, &shares));
        assert!(opened.is_err(), "{field}");
    }
    let mut swapped: Value = serde_json::from_str(&text).expect("JSON");
    swapped["keks"].as_array_mut().expect("a list").swap(0, 1);
    assert!(keks(&Backup::parse(&swapped.to_string()).expect("parses"), &shares).is_err());
    let mut more: Value = serde_json::from_str(&text).expect("JSON");
    more["note"] = "by someone".into();
    assert!(keks(&Backup::parse(&more.to_string()).expect("parses"), &shares).is_err());
    let twice = text.replacen("{", "{\"threshold\":2,", 1);
    assert_eq!(Backup::parse(&twice).err(), Some(BackupRefused::Malformed));
}

#[test]
fn recipients_are_different_people_and_two_of_them_at_least() {
    let officers = officers(2);
    let [a, b] = [0, 1].map(|at| officers[at].recipient.as_str());
    let refused = |recipients: &[&str], threshold| Audience::new(recipients.iter().copied(), threshold).err();
    assert_eq!(refused(&[a, b], 2), None);
    assert_eq!(refused(&[a], 2), Some(BackupRefused::Recipients));
    assert_eq!(refused(&[], 2), Some(BackupRefused::Recipients));
    assert_eq!(refused(&[a, b], 1), Some(BackupRefused::Threshold));
    assert_eq!(refused(&[a, b], 3), Some(BackupRefused::Threshold));
    assert_eq!(refused(&[a, b], 258), Some(BackupRefused::Threshold));
    assert_eq!(refused(&[a, a], 2), Some(BackupRefused::SameRecipient(2)));
    assert_eq!(refused(&[a, "age1"], 2), Some(BackupRefused::Recipient(2)));
    assert_eq!(refused(&[a, "ssh-ed25519 AAAA"], 2), Some(BackupRefused::Recipient(2)));
}

#[test]
fn identity_files_are_those_of_age_and_are_not_shown() {
    let NewIdentity { file, recipient } = new_identity();
    assert!(file.starts_with(&format!("# public key: {recipient}\nAGE-SECRET-KEY-1")));
    assert!(Identities::parse(&format!("\n{}\n# end\n", file.as_str())).is_ok());
    for bad in ["", "# only\n", "AGE-SECRET-KEY-1\n", &recipient] {
        assert!(Identities::parse(bad).is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_bit_that_flips_anywhere_opens_nothing_else(at in 0usize..usize::MAX, bit in 0u8..7) {
        let officers = officers(2);
        let (text, _) = backup(&officers, 2);
        let whole = Backup::parse(&text).expect("parses");
        let shares = opened(&whole, &[&officers[0], &officers[1]]);
        let mut bytes = text.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(changed) = String::from_utf8(bytes)
            && let Ok(changed) = Backup::parse(&changed)
        {
            prop_assert!(keks(&changed, &shares).is_err() || changed.sha256() == whole.sha256());
        }
    }

    #[test]
    fn no_text_panics_the_reader(text in "\\PC{0,80}") {
        prop_assert!(Backup::parse(&text).is_err());
        prop_assert!(Identities::parse(&text).is_err());
    }
}
