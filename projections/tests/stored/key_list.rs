//! The key list against a plain list of keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::key::{Key, KeyRenamedPersonal, KeyStatus, OwnerKind};
use keyledger_engine::domain::policy::Policy;
use keyledger_engine::value::environment::Environment;
use keyledger_engine::value::id::{ApiId, KeyId};
use keyledger_engine::value::position::Position;
use keyledger_engine::value::text::{Name, Scope, UserId};
use keyledger_engine::value::time::Timestamp;
use keyledger_projections::beside_the_log::usage::{Address, Usage};
use keyledger_projections::key_list::{KeyList, KeyListProjection, KeyQuery, KeySort, QueryError, TOTAL_MAX};
use keyledger_projections::stored::replay::Replay;
use keyledger_projections::verification::Code;
use proptest::prelude::*;

use crate::history::{History, ORGANIZATIONS};

struct Listed {
    history: History,
    list: KeyList,
    replay: Replay<KeyListProjection>,
}

impl Listed {
    fn new(history: History) -> Self {
        let (list, projection) = KeyList::new();
        let replay = Replay::in_memory(projection, history.reader()).unwrap();
        let mut listed = Self { history, list, replay };
        listed.catch_up();
        listed
    }

    fn catch_up(&mut self) {
        self.replay.catch_up(Position::new(u64::MAX), 100, |_| {}).unwrap();
    }
}

/// An independent case folding: lower case, with the differences of full folding added.
fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect::<String>().replace('ß', "ss").replace('ς', "σ")
}

fn name_of(key: &Key) -> Option<String> {
    key.name.as_ref().map(|name| folded(name.as_str()))
}

fn matches(query: &KeyQuery, key: &Key) -> bool {
    let status = key.status(query.now);
    let texts = [
        key.name.as_ref().map(|text| text.as_str().to_owned()),
        key.description.as_ref().map(|text| text.as_str().to_owned()),
        key.user_id.as_ref().map(|text| text.as_str().to_owned()),
        Some(key.id.to_string()),
        Some(key.hint.start.to_string()),
        Some(key.hint.last_four.to_string()),
    ];
    let wanted =
        if query.status.is_empty() { status != KeyStatus::Deleted } else { query.status.contains(&status) };
    wanted
        && query.organization_id.as_ref().is_none_or(|id| *id == key.organization_id)
        && (query.owner.is_empty() || query.owner.contains(&key.owner.kind))
        && query.client_id.as_ref().is_none_or(|id| Some(id) == key.owner.client_id.as_ref())
        && query.user_id.as_ref().is_none_or(|id| Some(id) == key.user_id.as_ref())
        && query.api_id.is_none_or(|id| Some(id) == key.api_id)
        && query.environment.is_none_or(|environment| environment == key.environment)
        && query.scope.as_ref().is_none_or(|wanted| key.scopes.iter().any(|scope| scope.as_str() == wanted))
        && query
            .text
            .as_ref()
            .is_none_or(|needle| texts.iter().flatten().any(|text| folded(text).contains(&folded(needle))))
        && query.created_after.is_none_or(|time| key.created_at > time)
        && query.created_before.is_none_or(|time| key.created_at < time)
        && query.expires_before.is_none_or(|time| key.expires_at.is_some_and(|end| end < time))
}

fn sorted(query: &KeyQuery, keys: &[Key]) -> Vec<Key> {
    let mut found: Vec<Key> = keys.iter().filter(|key| matches(query, key)).cloned().collect();
    let never = Timestamp::from_millis(i64::MAX);
    match query.sort {
        KeySort::CreatedAsc | KeySort::CreatedDesc => found.sort_by_key(|key| (key.created_at, key.id)),
        KeySort::NameAsc | KeySort::NameDesc => {
            found.sort_by_key(|key| (key.name.is_none(), name_of(key), key.id));
        }
        KeySort::ExpiresAsc | KeySort::ExpiresDesc => {
            found.sort_by_key(|key| (key.expires_at.unwrap_or(never), key.id));
        }
    }
    if matches!(query.sort, KeySort::CreatedDesc | KeySort::NameDesc | KeySort::ExpiresDesc) {
        found.reverse();
    }
    found
}

fn queries() -> impl Strategy<Value = KeyQuery> {
    let statuses = [KeyStatus::Active, KeyStatus::Revoked, KeyStatus::Expired, KeyStatus::Deleted];
    let owners = [OwnerKind::Organization, OwnerKind::User, OwnerKind::Partner, OwnerKind::Client];
    let sorts: Vec<KeySort> = KeySort::names().map(|name| name.parse().unwrap()).collect();
    let needles = [
        "PROD",
        "strasse",
        "οδοσ",
        "КЛЮЧ",
        "ünïc",
        "zÜR",
        "e",
        "key_0",
        "kl_live_a",
        "user-3",
        " 4",
        "none such",
    ];
    let time = || proptest::option::weighted(0.2, 1_700_000_000_000..1_700_002_000_000_i64);
    let filters = (
        proptest::option::weighted(0.6, proptest::sample::select(ORGANIZATIONS.to_vec())),
        (
            proptest::collection::vec(proptest::sample::select(owners.to_vec()), 0..3),
            proptest::option::weighted(0.1, proptest::sample::select(ORGANIZATIONS.to_vec())),
            proptest::option::weighted(0.2, 0..9),
        ),
        proptest::option::weighted(0.2, 1..4_u128),
        proptest::option::weighted(0.2, any::<bool>()),
        proptest::collection::vec(proptest::sample::select(statuses.to_vec()), 0..3),
        proptest::option::weighted(0.2, proptest::sample::select(vec!["read:users", "admin", "read"])),
        proptest::option::weighted(0.5, proptest::sample::select(needles.to_vec())),
    );
    (filters, (time(), time(), time()), proptest::sample::select(sorts), 1..40_usize).prop_map(
        |(
            (organization, (owner, client, user), api, production, status, scope, text),
            (after, before, expires),
            sort,
            limit,
        )| {
            KeyQuery {
                organization_id: organization.map(|id| id.parse().unwrap()),
                owner,
                client_id: client.map(|id| id.parse().unwrap()),
                user_id: user.map(|n| UserId::new(&format!("user-{n}")).unwrap()),
                api_id: api.map(ApiId::from_u128),
                environment: production
                    .map(|yes| if yes { Environment::Production } else { Environment::Preview }),
                status,
                scope: scope.map(Into::into),
                text: text.map(Into::into),
                created_after: after.map(Timestamp::from_millis),
                created_before: before.map(Timestamp::from_millis),
                expires_before: expires.map(Timestamp::from_millis),
                unused_since: None,
                breaks: Vec::new(),
                sort,
                limit,
                cursor: None,
                now: Timestamp::from_millis(1_700_001_000_000),
            }
        },
    )
}

/// Returns all pages of a query and calls `between` after each but the last.
fn walk(listed: &mut Listed, query: &KeyQuery, mut between: impl FnMut(&mut Listed)) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut query = query.clone();
    loop {
        let page = listed.list.query(&query).unwrap();
        assert!(page.keys.len() <= query.limit);
        keys.extend(page.keys);
        match page.next_cursor {
            None => return keys,
            Some(cursor) => query.cursor = Some(cursor),
        }
        between(listed);
    }
}

fn policies() -> impl Strategy<Value = Vec<(Environment, Arc<Policy>)>> {
    let policy = || {
        let scopes = ["read:users", "admin"].map(|scope| Scope::new(scope).unwrap());
        (
            proptest::option::weighted(0.4, 0..2_000_u64),
            any::<bool>(),
            proptest::option::weighted(0.5, 0..4_u32),
            proptest::option::weighted(0.4, proptest::sample::subsequence(scopes.to_vec(), 0..=2)),
            any::<bool>(),
        )
            .prop_map(
                |(
                    max_lifetime_seconds,
                    expiry_required,
                    max_keys_per_user,
                    allowed_scopes,
                    name_required,
                )| {
                    Arc::new(Policy {
                        max_lifetime_seconds,
                        expiry_required,
                        max_keys_per_user,
                        allowed_scopes,
                        name_required,
                    })
                },
            )
    };
    (policy(), proptest::option::of(policy())).prop_map(|(production, preview)| {
        let preview = preview.map(|policy| (Environment::Preview, policy));
        std::iter::once((Environment::Production, production)).chain(preview).collect()
    })
}

/// Whether an active key is beyond its user's limit, computed from a plain list.
fn over_user_limit(keys: &[Key], key: &Key, policy: &Policy, now: Timestamp) -> bool {
    let Some(user) = &key.user_id else { return false };
    let mut others: Vec<_> = keys
        .iter()
        .filter(|other| {
            other.organization_id == key.organization_id
                && other.environment == key.environment
                && other.user_id.as_ref() == Some(user)
                && other.status(now) == KeyStatus::Active
        })
        .map(|other| (other.created_at, other.id))
        .collect();
    others.sort();
    let place = others.iter().position(|(_, id)| *id == key.id);
    policy.max_keys_per_user.zip(place).is_some_and(|(max, place)| place >= max as usize)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn keys_that_break_a_policy_are_those_of_a_plain_list(
        seed: u64, len in 1..400_usize, breaks in policies(), limit in 1..40_usize,
    ) {
        let mut listed = Listed::new(History::with_events(seed, len));
        let now = listed.history.now();
        let query = KeyQuery {
            organization_id: Some(ORGANIZATIONS[0].parse().unwrap()),
            status: vec![KeyStatus::Active, KeyStatus::Revoked],
            breaks: breaks.clone(),
            limit,
            ..KeyQuery::new(now)
        };
        let plain = KeyQuery { breaks: Vec::new(), ..query.clone() };
        let breaking = |key: &Key| {
            let policy = breaks.iter().find(|it| it.0 == key.environment);
            policy.is_some_and(|(_, policy)| {
                !policy.breaches_of(key).is_empty() || over_user_limit(&listed.history.keys, key, policy, now)
            })
        };
        let expected: Vec<Key> =
            sorted(&plain, &listed.history.keys).into_iter().filter(breaking).collect();
        prop_assert_eq!(walk(&mut listed, &query, |_| ()), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn pages_hold_what_a_plain_list_holds(seed: u64, len in 1..600_usize, query in queries()) {
        let mut listed = Listed::new(History::with_events(seed, len));
        let expected = sorted(&query, &listed.history.keys);
        let page = listed.list.query(&query).unwrap();
        prop_assert_eq!(page.total, expected.len() as u64);
        prop_assert!(!page.total_capped);
        prop_assert_eq!(page.position, listed.history.reader().head().unwrap());
        let walked = walk(&mut listed, &query, |_| {});
        prop_assert_eq!(walked, expected);
    }

    #[test]
    fn keys_unused_since_a_time_are_those_not_verified_since(
        seed: u64,
        len in 1..400_usize,
        query in queries(),
        since in 1_700_000_000_000..1_700_002_000_000_i64,
    ) {
        let mut listed = Listed::new(History::with_events(seed, len));
        let directory = tempfile::tempdir().unwrap();
        let since = Timestamp::from_millis(since);
        let path = directory.path().join("usage.redb");
        let (usage, _thread) = Usage::open(&path, since, HashSet::new).unwrap();
        let mut last = HashMap::new();
        for (number, key) in listed.history.keys.iter().enumerate().filter(|(number, _)| number % 3 > 0) {
            let at = since.saturating_add_millis(number as i64 % 7 - 3);
            usage.record_key(number as u32, key.id, Code::Revoked, at, Address::default());
            last.insert(key.id, at);
        }
        listed.list = listed.list.clone().with_usage(usage);
        let query = KeyQuery { unused_since: Some(since), ..query };
        let mut expected = sorted(&query, &listed.history.keys);
        expected.retain(|key| key.created_at < since && last.get(&key.id).is_none_or(|at| *at < since));
        prop_assert_eq!(listed.list.query(&query).unwrap().total, expected.len() as u64);
        prop_assert_eq!(walk(&mut listed, &query, |_| {}), expected);
    }

    #[test]
    fn walking_meets_each_key_once_while_others_change(seed: u64, query in queries()) {
        let mut listed = Listed::new(History::with_events(seed, 400));
        let before = sorted(&query, &listed.history.keys);
        // Limited, because a walk in pages of one or two might never catch up with new keys.
        let mut pages = 0..100;
        let walked = walk(&mut listed, &query, |listed| {
            if pages.next().is_some() {
                listed.history.extend(8);
                listed.catch_up();
            }
        });
        let now: HashMap<KeyId, Key> = listed.history.keys.iter().map(|key| (key.id, key.clone())).collect();
        let mut times: HashMap<KeyId, usize> = HashMap::new();
        for key in &walked {
            *times.entry(key.id).or_default() += 1;
        }
        for key in before.iter().filter(|key| now[&key.id] == **key) {
            prop_assert_eq!(times.get(&key.id), Some(&1), "{} is met once", key.id);
        }
        if matches!(query.sort, KeySort::CreatedAsc | KeySort::CreatedDesc) {
            prop_assert!(times.values().all(|times| *times == 1), "no key is met twice");
        }
    }
}

#[test]
fn search_is_blind_to_case_in_any_script() {
    let mut history = History::new(30);
    for name in ["Straße nach Zürich", "Ο ΟΔΟΣ ΤΟΥ", "Ключ Доступа", "Plain Name"] {
        let index = history.add_key();
        let name = Some(Name::new(name).unwrap());
        history.apply(index, Event::KeyRenamed((), KeyRenamedPersonal { name }));
    }
    let listed = Listed::new(history);
    let found = |needle: &str| {
        // Counts names only: the other texts are random.
        let query = KeyQuery { text: Some(needle.into()), ..KeyQuery::new(Timestamp::from_millis(0)) };
        let page = listed.list.query(&query).unwrap();
        page.keys.iter().filter(|key| name_of(key).unwrap().contains(&folded(needle))).count()
    };
    for needle in [
        "STRASSE NACH",
        "straße nach",
        "NACH ZÜRICH",
        "ο οδος του",
        "ΟΔΟΣ Τ",
        "ключ дост",
        "КЛЮЧ Д",
        "pLAIN n",
    ] {
        assert_eq!(found(needle), 1, "{needle}");
    }
}

#[test]
fn nothing_matches_across_fields() {
    let mut history = History::new(31);
    for _ in 0..2 {
        let index = history.add_key();
        let name = Some(Name::new("end").unwrap());
        history.apply(index, Event::KeyRenamed((), KeyRenamedPersonal { name }));
    }
    let listed = Listed::new(history);
    for needle in ["end\u{1f}", "\u{1f}", "\u{1f}key_", "\u{0}"] {
        let query = KeyQuery { text: Some(needle.into()), ..KeyQuery::new(Timestamp::from_millis(0)) };
        assert_eq!(listed.list.query(&query).unwrap().total, 0, "{needle:?}");
    }
}

#[test]
fn a_cursor_belongs_to_its_query() {
    let listed = Listed::new(History::with_events(32, 500));
    let query = KeyQuery { limit: 5, ..KeyQuery::new(listed.history.now()) };
    let cursor = listed.list.query(&query).unwrap().next_cursor.unwrap();
    let with = |change: &dyn Fn(&mut KeyQuery)| {
        let mut query = KeyQuery { cursor: Some(cursor.clone()), ..query.clone() };
        change(&mut query);
        listed.list.query(&query)
    };
    assert!(with(&|_| {}).is_ok());
    assert!(with(&|query| query.limit = 9).is_ok());
    assert!(with(&|query| query.now = Timestamp::from_millis(1)).is_ok());
    let bad: [&dyn Fn(&mut KeyQuery); 8] = [
        &|query| query.unused_since = Some(Timestamp::from_millis(1)),
        &|query| query.sort = KeySort::CreatedAsc,
        &|query| query.sort = KeySort::NameDesc,
        &|query| query.text = Some("a".into()),
        &|query| query.organization_id = Some("acme".parse().unwrap()),
        &|query| query.status = vec![KeyStatus::Active],
        &|query| query.cursor = Some("zz".into()),
        &|query| query.cursor = query.cursor.take().map(|cursor| cursor[..cursor.len() - 2].into()),
    ];
    for change in bad {
        assert!(matches!(with(change), Err(QueryError::BadCursor)));
    }
}

#[test]
fn totals_are_exact_up_to_ten_thousand() {
    let mut listed = Listed::new(History::new(33));
    // At the greatest of these, a page is found without reading every chunk.
    for count in [TOTAL_MAX, TOTAL_MAX + 1, TOTAL_MAX + 8_000] {
        while (listed.history.keys.len() as u64) < count {
            listed.history.time += i64::from(listed.history.keys.len().is_multiple_of(3));
            listed.history.add_key();
        }
        listed.catch_up();
        for organization_id in [None, Some("acme".parse().unwrap())] {
            for sort in KeySort::names() {
                let query = KeyQuery {
                    organization_id: organization_id.clone(),
                    sort: sort.parse().unwrap(),
                    limit: 1_900,
                    ..KeyQuery::new(Timestamp::from_millis(0))
                };
                let expected = sorted(&query, &listed.history.keys);
                let (matching, page) = (expected.len() as u64, listed.list.query(&query).unwrap());
                let total = (matching.min(TOTAL_MAX), matching > TOTAL_MAX);
                assert_eq!((page.total, page.total_capped), total, "{sort}");
                assert!(walk(&mut listed, &query, |_| {}) == expected, "{sort}");
            }
        }
    }
}

#[test]
fn keys_are_counted_by_state() {
    let listed = Listed::new(History::with_events(45, 6_000));
    let user = UserId::new("user-3").unwrap();
    for (organization, user_id) in [(None, None), (Some("acme"), None), (Some("acme"), Some(user))] {
        for ahead in [0, 1_000_000, 10_000_000] {
            let now = Timestamp::from_millis(listed.history.time + ahead);
            let mut query = KeyQuery::new(now);
            query.organization_id = organization.map(|id| id.parse().unwrap());
            query.user_id = user_id.clone();
            let counts = listed.list.count(&query).unwrap();
            let of = |status| {
                let query = KeyQuery { status: vec![status], ..query.clone() };
                listed.history.keys.iter().filter(|key| matches(&query, key)).count() as u64
            };
            assert_eq!(
                [counts.active, counts.revoked, counts.expired, counts.deleted],
                [KeyStatus::Active, KeyStatus::Revoked, KeyStatus::Expired, KeyStatus::Deleted].map(of)
            );
            assert!(counts.active > 0 && counts.deleted > 0, "{counts:?}");
            assert_eq!(counts.position, listed.history.reader().head().unwrap());
        }
    }
}
