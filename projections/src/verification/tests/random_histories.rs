//! The index against the [model](super::model), in random histories.
//!
//! A failure prints the smallest history that shows it. Its seed is kept under `proptest-regressions`, and
//! running the test again begins with it. `PROPTEST_CASES` sets the number of histories.

use std::collections::BTreeSet;

use keyledger_engine::domain::key::{self, Key, OwnerKind};
use keyledger_engine::domain::record::Record;
use keyledger_engine::ledger::UserOf;
use keyledger_engine::log::SourceId;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{EventId, KeyId};
use keyledger_engine::value::text::UserId;
use keyledger_engine::value::time::Timestamp;
use keyledger_engine::value::token::Token;
use proptest::prelude::*;

use super::model::Model;
use super::steps::{ORGANIZATIONS, Run, api_id, organization_id, step};
use super::{Code, Question, VerificationIndex, key as mac_key};

impl Run {
    fn check(&self) {
        let (model, index) = (&self.model, &self.index);
        assert_eq!(index.position(), self.history.position);
        for later in [0, 1, 10, 100] {
            let now = self.history.now.saturating_add_millis(later);
            for (token, key_id) in &model.tokens {
                check_token(model, index, token, now);
                assert_eq!(index.find_token(token.expose()), Some(*key_id));
            }
            for organization in model.organizations.iter().filter(|it| it.policies.count_keys_of_users()) {
                let (user_id, environment) = (UserId::new("ada").unwrap(), Environment::Preview);
                let of_user = |key: &&Key| {
                    key.organization_id == organization.id
                        && key.environment == environment
                        && key.user_id.as_ref() == Some(&user_id)
                        && key.status(now) == key::KeyStatus::Active
                };
                let count = model.keys.iter().filter(of_user).count();
                let organization_id = organization.id.clone();
                let user = UserOf { organization_id, environment, user_id: user_id.clone() };
                assert_eq!(index.keys_of_user(&user, now) as usize, count);
            }
            let due = model.pending_expiries().into_iter().filter(|(end, _)| *end <= now);
            let due: Vec<KeyId> = due.map(|(_, id)| id).collect();
            assert_eq!(index.due_expiries(now, usize::MAX), due);
            assert_eq!(index.due_expiries(now, 1), due.get(..1).unwrap_or_default());
        }
        assert_eq!(index.next_expiry(), model.pending_expiries().first().map(|(end, _)| *end));
        let left = model.keys.iter().filter(|key| key.deleted_at.is_none());
        let left: BTreeSet<(KeyId, EventId)> =
            left.filter_map(|key| Some((key.id, model.end_of(key)?))).collect();
        let found = index.orphaned_keys(usize::MAX);
        assert_eq!(index.orphaned_keys(1), found.get(..1).unwrap_or_default());
        assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), left);
        assert_eq!(found.len(), left.len());
        assert_eq!(index.key_counts(), model.counts());
        self.check_directory();
    }

    fn check_directory(&self) {
        let (model, index) = (&self.model, &self.index);
        let mut organizations: Vec<_> = model.organizations.iter().collect();
        organizations.sort_by_key(|organization| &organization.id);
        let paged = index.organizations(None, 1).into_iter();
        let paged = paged.flat_map(|first| {
            let rest = index.organizations(Some(&first.id), 10);
            std::iter::once(first).chain(rest)
        });
        assert_eq!(paged.collect::<Vec<_>>().iter().map(|it| &**it).collect::<Vec<_>>(), organizations);
        for organization in organizations {
            assert_eq!(index.organization(&organization.id).as_deref(), Some(organization));
        }
        for partner in 0..ORGANIZATIONS {
            let partner = organization_id(partner);
            let mut clients: Vec<_> = model.links.iter().filter(|it| it.id.partner_id == partner).collect();
            clients.retain(|link| model.is_client(&partner, &link.id.client_id));
            clients.sort_by_key(|link| &link.id.client_id);
            let (first, total) = index.clients(&partner, None, 1);
            assert_eq!(total, clients.len());
            let rest = first.first().map(|link| index.clients(&partner, Some(&link.id.client_id), 10).0);
            let paged: Vec<_> = first.into_iter().chain(rest.into_iter().flatten()).collect();
            assert_eq!(paged.iter().map(|link| &**link).collect::<Vec<_>>(), clients);
        }
        for api in &model.apis {
            assert_eq!(index.api(api.id).as_deref(), Some(api));
        }
        assert_eq!(index.organization_count(), model.organizations.len());
        assert_eq!(index.api_count(), model.apis.len());
        assert_eq!(index.root_key_count(), model.root_keys.len());
        for (token, id) in &model.root_tokens {
            let root_key = model.root_keys.iter().find(|root_key| root_key.id == *id).unwrap();
            assert_eq!(index.root_key(*id).as_deref(), Some(root_key));
            let bound_to_deleted = root_key.organization_id.as_ref().is_some_and(|id| model.is_deleted(id));
            let accepted = root_key.revoked_at.is_none() && !bound_to_deleted;
            let found = index.authenticate_root_key(token.expose());
            assert_eq!(found.as_deref(), accepted.then_some(root_key));
            assert_eq!(index.find_token(token.expose()), None);
        }
    }
}

fn check_token(model: &Model, index: &VerificationIndex, token: &Token, now: Timestamp) {
    let other_api = api_id(1).to_string();
    let questions = [
        Question::default(),
        Question { environment: Some(Environment::Production), ..Question::default() },
        Question { organization_id: Some("org-0"), ..Question::default() },
        Question { organization_id: Some("org-1"), ..Question::default() },
        Question { organization_id: Some("org-2"), ..Question::default() },
        Question { api_id: Some(&other_api), ..Question::default() },
        Question { scopes: &["admin", "read:users"], ..Question::default() },
        Question {
            environment: Some(Environment::Preview),
            organization_id: Some("org-1"),
            api_id: Some(&other_api),
            scopes: &["write:users"],
        },
    ];
    for question in questions {
        let (code, key) = model.verify(token.digest(), &question, now);
        index.verify(token.expose(), &question, now, |verdict| {
            assert_eq!(verdict.code, code, "{question:?}");
            assert_eq!(verdict.position, index.position());
            assert_eq!(verdict.key.is_some(), key.is_some());
            if let (Some(found), Some(key)) = (verdict.key, key) {
                assert_eq!(found.key_id(), key.id);
                assert_eq!(found.organization_id(), &key.organization_id);
                assert_eq!(found.owner(), key.owner.kind);
                let portfolio_wide = key.owner.kind == OwnerKind::Partner && code == Code::Valid;
                let own = key.organization_id.as_str();
                let asked = question.organization_id.filter(|asked| portfolio_wide && *asked != own);
                assert_eq!(verdict.client_id, key.owner.client_id.as_ref().map(|id| id.as_str()).or(asked));
                assert_eq!(found.user_id(), key.user_id.as_ref());
                assert_eq!(found.name(), key.name.as_ref());
                assert_eq!(found.environment(), key.environment);
                assert_eq!(found.api_id(), key.api_id);
                assert_eq!(found.api_id_text().map(ToOwned::to_owned), key.api_id.map(|id| id.to_string()));
                assert_eq!(found.scopes(), key.scopes);
                assert_eq!(found.metadata(), key.metadata.as_ref());
                assert_eq!(found.expires_at(), key.expires_at);
            }
        });
    }
}

proptest! {
    #[test]
    fn the_index_answers_as_the_model_does(steps in proptest::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
            run.check();
        }
        run.restart();
        run.check();
    }
}

fn replayed(records: &[Record]) -> VerificationIndex {
    let index = VerificationIndex::new();
    index.apply_all(records).unwrap();
    index
}

proptest! {
    #[test]
    fn a_snapshot_is_what_a_replay_makes_whatever_is_applied_while_it_is_saved(
        before in proptest::collection::vec(step(), 0..60),
        meanwhile in proptest::collection::vec(proptest::collection::vec(step(), 0..6), 1..10),
        keys_at_a_time in 1_usize..4,
    ) {
        let mut run = Run::new();
        before.iter().for_each(|step| run.step(step));
        let count = run.records.len();
        let index = replayed(&run.records);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot");
        let mut meanwhile = meanwhile.iter();
        let keep_going = || {
            let applied = run.records.len();
            meanwhile.next().into_iter().flatten().for_each(|step| run.step(step));
            index.apply_all(&run.records[applied..]).unwrap();
            true
        };
        let source = SourceId([1; 16]);
        let position = index.save_in_pieces(&path, source, &mac_key(), |_| Ok([2; 32]), keep_going, keys_at_a_time).unwrap();
        prop_assert_eq!(position.get(), count as u64);
        let snapshot = VerificationIndex::load_snapshot(&path, Some(&mac_key())).unwrap();
        prop_assert_eq!(snapshot.index.first_difference(&replayed(&run.records[..count])), None);
        // The loaded index continues from there, and the saved one keeps nothing of the walk.
        snapshot.index.apply_all(&run.records[count..]).unwrap();
        let whole = replayed(&run.records);
        prop_assert_eq!(snapshot.index.first_difference(&whole), None);
        prop_assert_eq!(index.first_difference(&whole), None);
        prop_assert!(index.writer().walk.is_none());
    }
}
