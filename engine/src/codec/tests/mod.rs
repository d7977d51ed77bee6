//! Records of every kind survive encoding and decoding; bytes that are not a record only ever fail to decode.

mod strategies;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use self::strategies::{record, user_id};
use super::{ENTRY_LEN_MAX, Error, decode, decode_with, encode, encode_with};
use crate::domain::event::{Event, EventParts};
use crate::domain::record::{Personal, Record};
use crate::value::subject::Subject;
use crate::vault::Vault;

/// The encoded facts of an event.
#[derive(Default)]
struct Facts(Vec<u8>);

impl EventParts for Facts {
    type Error = rmp_serde::encode::Error;

    fn facts<T: serde::Serialize>(&mut self, facts: &T) -> Result<(), Self::Error> {
        rmp_serde::encode::write(&mut self.0, facts)
    }

    fn personal<T: serde::Serialize>(&mut self, _personal: &T) -> Result<(), Self::Error> {
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_record_comes_back_from_its_bytes(record in record()) {
        let entry = encode(&record).unwrap();
        prop_assert!(entry.len() <= ENTRY_LEN_MAX);
        prop_assert_eq!(decode(&entry).unwrap(), record);
    }

    #[test]
    fn a_sealed_record_comes_back_while_its_key_is_there(
        record in record(),
        user in option::of(user_id()),
    ) {
        let vault = Vault::in_memory().unwrap();
        let subject = Subject::of(Some(&"acme".parse().unwrap()), user.as_ref());
        let key = vault.keys_for([&subject]).unwrap().remove(0);
        let entry = encode_with(&record, Some(&key)).unwrap();
        prop_assert!(entry.len() <= ENTRY_LEN_MAX);
        prop_assert_eq!(&decode_with(&entry, Some(&vault)).unwrap(), &record);

        // Without the key everything but the personal part is unchanged.
        vault.withhold(&vault.keys_of(&subject));
        vault.destroy_withheld().unwrap();
        let erased = decode_with(&entry, Some(&vault)).unwrap();
        prop_assert_eq!(&decode(&entry).unwrap(), &erased);
        if erased.personal == Personal::Readable {
            // There was nothing to seal.
            prop_assert_eq!(entry, encode(&record).unwrap());
            return Ok(());
        }
        let (actor, event) = (&erased.actor, &erased.event);
        prop_assert_eq!((actor.ip, actor.user_agent.as_deref()), (None, None));
        prop_assert_eq!((actor.kind, &actor.id), (record.actor.kind, &record.actor.id));
        prop_assert_eq!(event.event_type(), record.event.event_type());
        let facts = |event: &Event| {
            let mut facts = Facts::default();
            event.encode_parts(&mut facts).unwrap();
            facts.0
        };
        prop_assert_eq!(facts(event), facts(&record.event));
        let envelope = |record: &Record| {
            let it = record.clone();
            let place = (it.position, it.id, it.time, it.stream, it.version);
            (place, it.organization_id, it.request_id, it.causation)
        };
        prop_assert_eq!(envelope(&erased), envelope(&record));
    }

    /// A changed sealed entry never decodes as another record.
    #[test]
    fn no_byte_of_a_sealed_entry_can_be_exchanged(
        record in record(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let vault = Vault::in_memory().unwrap();
        let key = vault.keys_for([&Subject::Installation]).unwrap().remove(0);
        let mut entry = encode_with(&record, Some(&key)).unwrap();
        prop_assume!(entry != encode(&record).unwrap());
        let at = at.index(entry.len());
        entry[at] ^= flip;
        if let Ok(read) = decode_with(&entry, Some(&vault)) {
            // The change can only have hit the id of the key: no key has the changed id.
            prop_assert_eq!(read.personal, Personal::Erased);
        }
    }

    /// A text with the same bytes is not accepted instead of a byte string.
    #[test]
    fn a_sealed_part_is_a_byte_string(record in record()) {
        let vault = Vault::in_memory().unwrap();
        let key = vault.keys_for([&Subject::Installation]).unwrap().remove(0);
        let (mut entry, clear) = (encode_with(&record, Some(&key)).unwrap(), encode(&record).unwrap());
        let at = entry.iter().zip(&clear).take_while(|(sealed, clear)| sealed == clear).count();
        prop_assume!(entry != clear);
        // The first difference is the length, or its marker if only the sealed part is that long.
        let at = (at.saturating_sub(2)..=at).rev().find(|at| matches!(entry[*at], 0xC4 | 0xC5)).unwrap();
        entry[at] = if entry[at] == 0xC4 { 0xD9 } else { 0xDA };
        prop_assert!(decode_with(&entry, Some(&vault)).is_err());
    }

    #[test]
    fn a_part_of_an_entry_is_no_record(record in record(), part in 0.0..1.0) {
        let entry = encode(&record).unwrap();
        let len = (entry.len() as f64 * part) as usize;
        prop_assert!(decode(&entry[..len]).is_err());
        let longer = [entry.as_slice(), &[0xC0]].concat();
        prop_assert!(decode(&longer).is_err());
    }

    #[test]
    fn changed_entries_do_no_harm(
        record in record(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut entry = encode(&record).unwrap();
        for (index, value) in changes {
            let index = index.index(entry.len());
            entry[index] ^= value;
        }
        if let Ok(record) = decode(&entry) {
            // What decodes can be encoded.
            prop_assert!(encode(&record).is_ok());
        }
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
        let framed = [&[1, 0x9F], bytes.as_slice()].concat();
        let _ = decode(&framed);
    }
}

#[test]
fn entries_of_newer_versions_say_so() {
    assert!(matches!(decode(&[2, 0x9F]), Err(Error::UnknownFormat(2))));
    assert!(matches!(decode(&[]), Err(Error::Malformed(_))));
}
