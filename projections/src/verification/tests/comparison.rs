//! A running index is compared with the log: it is equal however it was made, and one that says anything else
//! is found.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::log::merkle::{Frontier, Hash};
use keyledger_engine::log::{CommandId, Error, LogId, LogReader, RememberedCommand, SourceId, Stream};
use keyledger_engine::value::id::{ApplicationId, KeyId, OrganizationId, RootKeyId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::token::Digest;
use keyledger_engine::vault::Subject;
use proptest::prelude::*;

use super::steps::{Run, step};
use super::{ComparisonError, History, VerificationIndex, revoked};

/// A log that has records and nothing else.
struct Records(Arc<Mutex<Vec<Record>>>);

impl Records {
    fn of(records: &[Record]) -> Self {
        Self(Arc::new(Mutex::new(records.to_vec())))
    }
}

fn unused<T>() -> Result<T, Error> {
    Err(Error::Unavailable("a comparison reads records only".into()))
}

impl LogReader for Records {
    fn log_id(&self) -> LogId {
        LogId([0; 16])
    }
    fn source_id(&self) -> SourceId {
        SourceId([0; 16])
    }
    fn head(&self) -> Result<Position, Error> {
        Ok(Position::new(self.0.lock().unwrap().len() as u64))
    }
    fn read(&self, after: Position, records_max: usize) -> Result<Vec<Record>, Error> {
        let records = self.0.lock().unwrap();
        Ok(records.iter().skip(after.get() as usize).take(records_max).cloned().collect())
    }
    fn read_with_leaves(&self, _: Position, _: usize) -> Result<Vec<(Record, Hash)>, Error> {
        unused()
    }
    fn read_entries(&self, _: Position, _: usize) -> Result<Vec<Vec<u8>>, Error> {
        unused()
    }
    fn read_stream(&self, _: &StreamId) -> Result<Stream, Error> {
        unused()
    }
    fn erasures(&self) -> Result<Vec<Record>, Error> {
        unused()
    }
    fn find_command(&self, _: &CommandId) -> Option<RememberedCommand> {
        None
    }
    fn commands(&self, _: Position, _: usize) -> Result<Vec<(CommandId, RememberedCommand)>, Error> {
        unused()
    }
    fn subtree_hashes(&self, _: u8, _: u64, _: usize) -> Result<Vec<Hash>, Error> {
        unused()
    }
    fn frontier(&self) -> Result<Frontier, Error> {
        unused()
    }
}

fn indexed(records: &[Record]) -> VerificationIndex {
    let index = VerificationIndex::new();
    index.apply_all(records).unwrap();
    index
}

/// The first thing in which the index differs from a log of these records.
fn difference(index: &VerificationIndex, records: &[Record], parts: usize) -> Option<String> {
    let proceed = |_, _| ControlFlow::Continue(());
    index.differs_in_parts(&Records::of(records), &Mutex::new(()), parts, proceed).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happened, before the comparison and during it.
    #[test]
    fn an_index_equals_a_replay_of_its_log(
        before in prop::collection::vec(step(), 0..60),
        meanwhile in prop::collection::vec(prop::collection::vec(step(), 0..6), 0..8),
        parts in 1..4_usize,
    ) {
        let mut run = Run::new();
        before.iter().for_each(|step| run.step(step));
        let index = indexed(&run.records);
        let log = Records::of(&run.records);
        let mut meanwhile = meanwhile.iter();
        let proceed = |_, _| {
            let applied = run.records.len();
            meanwhile.next().into_iter().flatten().for_each(|step| run.step(step));
            log.0.lock().unwrap().extend_from_slice(&run.records[applied..]);
            index.apply_all(&run.records[applied..]).unwrap();
            ControlFlow::Continue(())
        };
        prop_assert_eq!(index.differs_in_parts(&log, &Mutex::new(()), parts, proceed).unwrap(), None);
        prop_assert!(index.writer().walk.is_none());
    }
}

#[test]
fn whatever_decides_and_is_not_in_the_log_is_found() {
    let mut history = History::new();
    let acme: OrganizationId = "acme".parse().unwrap();
    let mut records = vec![history.organization(&acme), history.root_key(RootKeyId::from_u128(1)).0];
    records.push(history.application(ApplicationId::from_u128(1), Some(acme.clone())));
    records.extend((1..=9).map(|id| history.key(KeyId::from_u128(id), &acme).0));
    let revocation = history.record(StreamId::Key(KeyId::from_u128(4)), Some(acme.clone()), revoked());
    records.push(revocation);
    assert_eq!(difference(&indexed(&records), &records, 1), None);
    let forged = |forge: &dyn Fn(&mut Vec<Record>)| {
        let mut forged = records.clone();
        forge(&mut forged);
        let index = indexed(&forged);
        let found = [1, 2, 3].map(|parts| difference(&index, &records, parts));
        assert!(found.iter().all(Option::is_some), "{found:?}");
        found[0].clone().unwrap()
    };
    // A root key, and a key, with the attacker's token.
    let other = Digest::from_bytes([9; 32]);
    let with_token = |records: &mut Vec<Record>, at: usize| match &mut records[at].event {
        Event::RootKeyCreated(facts, _) => facts.digest = other,
        Event::KeyCreated(facts, _) => facts.digest = other,
        event => panic!("{event:?}"),
    };
    assert_eq!(forged(&|records| with_token(records, 1)), RootKeyId::from_u128(1).to_string());
    assert_eq!(forged(&|records| with_token(records, 5)), KeyId::from_u128(3).to_string());
    // Another key is revoked.
    let moved = |records: &mut Vec<Record>| {
        records.last_mut().unwrap().stream = StreamId::Key(KeyId::from_u128(5));
    };
    assert!(forged(&moved).starts_with("key_"));
}

#[test]
fn a_comparison_can_be_stopped_and_an_erasure_restarts_it() {
    let mut history = History::new();
    let acme: OrganizationId = "acme".parse().unwrap();
    let mut records = vec![history.organization(&acme)];
    records.extend((1..=5).map(|id| history.key(KeyId::from_u128(id), &acme).0));
    let index = indexed(&records);
    let log = Records::of(&records);
    let stopped = index.differs_in_parts(&log, &Mutex::new(()), 1, |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(ComparisonError::Stopped)));
    let (mut calls, mut erasing) = (0, 3);
    let compared = index.differs_in_parts(&log, &Mutex::new(()), 1, |_, _| {
        calls += 1;
        if erasing > 0 {
            erasing -= 1;
            index.erase(&Subject::User("nobody".parse().unwrap(), UserId::new("x").unwrap()));
        }
        ControlFlow::Continue(())
    });
    assert_eq!(compared.unwrap(), None);
    assert!(calls > 3 && erasing == 0, "{calls}");
    // What is erased all the time cannot be compared.
    let compared = index.differs_in_parts(&log, &Mutex::new(()), 1, |_, _| {
        index.erase(&Subject::User("nobody".parse().unwrap(), UserId::new("x").unwrap()));
        ControlFlow::Continue(())
    });
    assert!(matches!(compared, Err(ComparisonError::Unfinished(_))));
    assert!(index.writer().walk.is_none());
}
