//! Listing keys: filters, search, order, pages.

use std::collections::BTreeSet;
use std::thread;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{self, key, organization, text};
use keyledger_tests::processes::server::Server;
use serde_json::{Value, json};

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|key| text(&key["id"])).collect()
}

fn list(client: &Client, query: &str) -> Value {
    fixture::listed(client, &format!("/v1/keys?{query}"))
}

/// Follows the cursors to the end.
fn pages(client: &Client, query: &str, limit: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut page = list(client, &format!("{query}&limit={limit}"));
    loop {
        assert!(ids(&page).len() <= limit);
        all.extend(ids(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { return all };
        page = list(client, &format!("{query}&limit={limit}&cursor={cursor}"));
    }
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn filters_select_keys() {
    let server = Server::start();
    let client = server.client();
    let (first, second) = (organization(&client, "paid"), organization(&client, "paid"));
    let api = fixture::api(&client, &["read:users", "write:users"]);
    let plain = key(&client, &first, json!({ "name": "plain" }));
    let preview = key(&client, &first, json!({ "environment": "preview", "user_id": "u1" }));
    let scoped = key(&client, &first, json!({ "api_id": api, "scopes": ["write:users"] }));
    let ending = key(&client, &first, json!({ "expires_in": "one_month" }));
    let revoked = key(&client, &first, json!({}));
    client.post(&revoked.path("/revoke"), &json!({})).expect(200);
    let deleted = key(&client, &first, json!({}));
    client.delete(&deleted.path("")).expect(204);
    let other = key(&client, &second, json!({}));

    let check = |query: &str, expected: &[&fixture::Issued]| {
        let page = list(&client, query);
        let found: BTreeSet<String> = ids(&page).into_iter().collect();
        assert_eq!(found, expected.iter().map(|it| it.id.clone()).collect(), "{query}");
        assert_eq!(page["total"], expected.len(), "{query}");
        assert_eq!(page["total_capped"], false);
    };
    let of_first = format!("organization_id={first}");
    check("", &[&plain, &preview, &scoped, &ending, &revoked, &other]);
    check(&of_first, &[&plain, &preview, &scoped, &ending, &revoked]);
    check(&format!("organization_id={second}"), &[&other]);
    check(&format!("{of_first}&user_id=u1"), &[&preview]);
    check(&format!("{of_first}&environment=preview"), &[&preview]);
    check(&format!("{of_first}&environment=production"), &[&plain, &scoped, &ending, &revoked]);
    check(&format!("{of_first}&api_id={api}"), &[&scoped]);
    check(&format!("{of_first}&scope=write:users"), &[&scoped]);
    check(&format!("{of_first}&scope=read:users"), &[]);
    check(&format!("{of_first}&status=revoked"), &[&revoked]);
    check(&format!("{of_first}&status=active"), &[&plain, &preview, &scoped, &ending]);
    check(&format!("{of_first}&expires_before=2099-01-01T00:00:00Z"), &[&ending]);
    check(&format!("{of_first}&expires_before=2001-01-01T00:00:00Z"), &[]);
    let created = text(&plain.key["created_at"]);
    check(&format!("{of_first}&created_before=2001-01-01T00:00:00Z"), &[]);
    check(
        &format!("{of_first}&created_after=2001-01-01T00:00:00Z"),
        &[&plain, &preview, &scoped, &ending, &revoked],
    );
    let page = list(&client, &format!("{of_first}&created_after={created}"));
    assert!(!ids(&page).is_empty());
}

#[test]
fn search_finds_parts_of_texts_in_any_case() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let named = key(
        &client,
        &organization,
        json!({ "name": "Production Ünïcode ΣΊΣΥΦΟΣ", "description": "Nightly EXPORT" }),
    );
    let user = key(&client, &organization, json!({ "name": "100%_wild", "user_id": "alice@example.com" }));
    let newest = key(&client, &organization, json!({ "name": "production two" }));
    let find = |q: &str| -> BTreeSet<String> {
        ids(&list(&client, &format!("organization_id={organization}&q={}", escape(q)))).into_iter().collect()
    };
    let set = |keys: &[&fixture::Issued]| keys.iter().map(|it| it.id.clone()).collect::<BTreeSet<_>>();
    assert_eq!(find("production"), set(&[&named, &newest]));
    assert_eq!(find("PRODUCTION"), set(&[&named, &newest]));
    assert_eq!(find("ÜNÏCODE"), set(&[&named]));
    assert_eq!(find("σίσυφος"), set(&[&named]));
    assert_eq!(find("nightly exp"), set(&[&named]));
    assert_eq!(find("ALICE@"), set(&[&user]));
    assert_eq!(find("0%_w"), set(&[&user]), "no character is a wildcard");
    assert_eq!(find(&named.id), set(&[&named]));
    assert_eq!(find(&named.id[10..]), set(&[&named]));
    assert!(find(&text(&user.key["start"])).contains(&user.id));
    assert!(find(&text(&user.key["last_four"])).contains(&user.id));
    assert_eq!(find("no such text"), set(&[]));
    assert_eq!(find(&user.token), set(&[]), "the search ignores tokens");

    client.patch(&newest.path(""), &json!({ "name": "renamed" })).expect(200);
    assert_eq!(find("production"), set(&[&named]), "the caller's own change is listed at once");
    assert_eq!(find("renamed"), set(&[&newest]));
}

#[test]
fn own_writes_are_listed_at_once() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    for n in 1..=100 {
        let issued = key(&client, &organization, json!({ "name": format!("key {n}") }));
        let request = client.get(&format!("/v1/keys?organization_id={organization}&limit=200"));
        let page = request.header("keyledger-min-position", &issued.position.to_string()).expect(200).json();
        assert!(ids(&page).contains(&issued.id));
        assert_eq!(page["total"], n);
    }
}

#[test]
fn pages_are_complete_ordered_and_stable_while_keys_come_and_go() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let names = ["delta", "Alpha", "charlie", "bravo", "echo", "alpha", "Zulu"];
    let mut keys = Vec::new();
    for round in 0..4 {
        for name in names {
            keys.push(key(&client, &organization, json!({ "name": format!("{name} {round}") })));
        }
    }
    let of_organization = format!("organization_id={organization}");
    let expected: BTreeSet<String> = keys.iter().map(|it| it.id.clone()).collect();
    for limit in [1, 5, 28, 200] {
        let all = pages(&client, &of_organization, limit);
        assert_eq!(all.len(), keys.len(), "none twice");
        assert_eq!(all.iter().cloned().collect::<BTreeSet<_>>(), expected);
    }
    let ascending = pages(&client, &format!("{of_organization}&sort=created_at"), 5);
    assert_eq!(ascending, keys.iter().map(|it| it.id.clone()).collect::<Vec<_>>());
    let mut descending = pages(&client, &format!("{of_organization}&sort=-created_at"), 5);
    descending.reverse();
    assert_eq!(descending, ascending);
    let by_name = pages(&client, &format!("{of_organization}&sort=name"), 3);
    let name_of =
        |id: &String| text(&keys.iter().find(|it| it.id == *id).unwrap().key["name"]).to_lowercase();
    assert!(by_name.is_sorted_by_key(name_of), "{:?}", by_name.iter().map(name_of).collect::<Vec<_>>());
    assert_eq!(list(&client, &format!("{of_organization}&limit=3"))["total"], keys.len());

    // While a reader pages, other callers delete keys that it has seen and add new ones. Each remaining key
    // is seen once.
    let first = list(&client, &format!("{of_organization}&sort=created_at&limit=10"));
    for id in &ids(&first)[..5] {
        client.delete(&format!("/v1/keys/{id}")).expect(204);
    }
    let added = key(&client, &organization, json!({ "name": "added" }));
    let mut rest = Vec::new();
    let mut cursor = first["next_cursor"].as_str().map(str::to_owned);
    while let Some(at) = cursor {
        let page = list(&client, &format!("{of_organization}&sort=created_at&limit=10&cursor={at}"));
        rest.extend(ids(&page));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
    }
    let mut expected: Vec<String> = ascending[10..].to_vec();
    expected.push(added.id);
    assert_eq!(rest, expected);
}

#[test]
fn the_list_is_the_same_after_a_kill_and_without_its_files() {
    let mut server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    thread::scope(|scope| {
        for writer in 0..4 {
            let (client, organization) = (&client, &organization);
            scope.spawn(move || {
                for n in 0..50 {
                    let issued = key(client, organization, json!({ "name": format!("w{writer} k{n}") }));
                    match n % 4 {
                        0 => drop(client.post(&issued.path("/revoke"), &json!({})).expect(200)),
                        1 => drop(client.delete(&issued.path("")).expect(204)),
                        2 => drop(client.patch(&issued.path(""), &json!({ "name": "changed" })).expect(200)),
                        _ => {}
                    }
                }
            });
        }
    });
    let all = |client: &Client| {
        let query = format!("organization_id={organization}&sort=created_at&limit=200");
        (
            list(client, &query),
            list(client, &format!("{query}&q=changed")),
            list(client, &format!("{query}&status=revoked")),
        )
    };
    let before = all(&client);
    assert_eq!(before.0["total"], 148);
    server.kill();
    server.start_again();
    assert_eq!(all(&server.client()), before);
    server.stop();
    std::fs::remove_dir_all(server.data().join("projections"))
        .expect("the projections have a directory of their own");
    server.start_again();
    assert_eq!(all(&server.client()), before);
}
