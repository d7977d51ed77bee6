//! Readers that verify while records are applied.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::KeyRotated;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{KeyId, OrganizationId};

use super::{Code, History, VerificationIndex, code, revoked};

const READERS: usize = 2;
const ROUNDS: usize = 2_000;

/// Stops the readers even if an assertion of the writer fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn no_reader_sees_valid_once_a_revocation_is_applied() {
    let mut history = History::new();
    let index = VerificationIndex::new();
    let acme: OrganizationId = "acme".parse().unwrap();
    let key_id = KeyId::from_u128(1);
    index.apply(&history.organization(&acme)).unwrap();
    let (created, token) = history.key(key_id, &acme);
    index.apply(&created).unwrap();
    let now = history.now;
    // Odd between an applied revocation and the reactivation that follows.
    let phase = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let judged = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    let before = phase.load(Ordering::Acquire);
                    let code = code(&index, token.expose(), now);
                    let after = phase.load(Ordering::Acquire);
                    assert!(matches!(code, Code::Valid | Code::Revoked), "{code}");
                    if before == after && before % 2 == 1 {
                        assert_eq!(code, Code::Revoked);
                        judged.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let _stop = StopOnDrop(&stop);
        for _ in 0..ROUNDS {
            let stream = StreamId::Key(key_id);
            index.apply(&history.record(stream.clone(), Some(acme.clone()), revoked())).unwrap();
            phase.fetch_add(1, Ordering::AcqRel);
            assert_eq!(code(&index, token.expose(), now), Code::Revoked);
            thread::yield_now();
            phase.fetch_add(1, Ordering::AcqRel);
            let event = Event::KeyReactivated((), ());
            index.apply(&history.record(stream, Some(acme.clone()), event)).unwrap();
            assert_eq!(code(&index, token.expose(), now), Code::Valid);
        }
    });
    assert!(judged.into_inner() > 0, "no reader ever looked between a revocation and a reactivation");
}

#[test]
fn a_rotated_key_always_has_a_token_that_works() {
    let mut history = History::new();
    let index = VerificationIndex::new();
    let acme: OrganizationId = "acme".parse().unwrap();
    let key_id = KeyId::from_u128(1);
    index.apply(&history.organization(&acme)).unwrap();
    let (created, first) = history.key(key_id, &acme);
    index.apply(&created).unwrap();
    let now = history.now;
    let mut tokens = vec![first];
    tokens.extend((0..500).map(|_| history.token(Environment::Production)));
    let newest = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    let token = &tokens[newest.load(Ordering::Acquire)];
                    assert_eq!(code(&index, token.expose(), now), Code::Valid);
                }
            });
        }
        let _stop = StopOnDrop(&stop);
        for (number, token) in tokens.iter().enumerate().skip(1) {
            let facts = KeyRotated {
                digest: token.digest(),
                hint: token.hint(),
                previous_valid_until: now.saturating_add_millis(1),
            };
            let record =
                history.record(StreamId::Key(key_id), Some(acme.clone()), Event::KeyRotated(facts, ()));
            index.apply(&record).unwrap();
            assert_eq!(code(&index, token.expose(), now), Code::Valid);
            newest.store(number, Ordering::Release);
        }
    });
}
