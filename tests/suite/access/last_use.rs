//! When and from where root keys and applications were last used.

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{access_token, application, organization, root_key};
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};

/// `last_used_at` and `last_used_ip`.
fn last_use(client: &Client, path: &str) -> (Value, Value) {
    let shown = client.get(path).expect(200).json();
    (shown["last_used_at"].clone(), shown["last_used_ip"].clone())
}

#[test]
fn callers_show_their_last_use_also_after_a_restart() {
    let arguments = ["--trusted-proxy", "127.0.0.1/32"].map(str::to_owned).to_vec();
    let mut server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let organization = organization(&client, "paid");
    let never = (Value::Null, Value::Null);
    let (id, token) = root_key(&client, &["keys:verify"], Some(&organization));
    let root_key = format!("/v1/root-keys/{id}");
    let app = application(&client, &["keys:read"], None);
    assert_eq!(last_use(&client, &root_key), never);
    assert_eq!(last_use(&client, &app.path("")), never);

    // The second address is that of a request on the same connection, which the fast path answers.
    let verifier = client.with_token(&token);
    for address in ["203.0.113.9", "2001:db8::7"] {
        let asked = verifier.post("/v1/keys/verify", &json!({ "token": "none" }));
        asked.header("x-forwarded-for", address).expect(200);
        let (at, ip) = last_use(&client, &root_key);
        assert_eq!(ip, address);
        assert!(at.as_str().unwrap().ends_with(":00.000Z"), "{at}");
    }
    let token = access_token(&client, &app);
    assert_eq!(last_use(&client, &app.path("")).1, "127.0.0.1");
    let reader = client.with_token(&token);
    reader.get("/v1/keys").header("x-forwarded-for", "203.0.113.10").expect(200);
    assert_eq!(last_use(&client, &app.path("")).1, "203.0.113.10");
    let listed = client.get("/v1/root-keys").expect(200).json();
    let is_it = |it: &&Value| it["id"] == json!(id);
    let listed = listed["data"].as_array().unwrap().iter().find(is_it).unwrap();
    assert_eq!(listed["last_used_ip"], "2001:db8::7");

    let before = [last_use(&client, &root_key), last_use(&client, &app.path(""))];
    server.stop();
    server.start_again();
    let client = server.client();
    assert_eq!([last_use(&client, &root_key), last_use(&client, &app.path(""))], before);
    // A refused token is no use.
    client.delete(&root_key).expect(204);
    client.with_token(&token[..token.len() - 1]).get("/v1/keys").expect(401);
    assert_eq!(last_use(&client, &root_key), before[0]);
}
