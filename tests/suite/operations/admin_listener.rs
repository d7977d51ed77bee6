//! A listener of its own for monitoring: what it shows, and what is not shown elsewhere then.

use keyledger_tests::client::console::Browser;
use keyledger_tests::client::http::Client;
use keyledger_tests::client::transcript::Transcript;
use keyledger_tests::data::fixture::{key, organization};
use keyledger_tests::processes::server::{Options, Server, free_address};
use serde_json::json;

#[test]
fn details_are_shown_at_the_admin_listener_only_and_nothing_else_is() {
    let address = free_address();
    let arguments = vec!["--admin-listen".to_owned(), address.to_string()];
    let server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));

    // Positions, counts and reasons are the operator's, whoever asks.
    for public in [&client, &client.anonymous()] {
        assert_eq!(public.get("/readyz").expect(200).json(), json!({ "ready": true }));
        assert_eq!(public.get("/metrics").expect(404).code(), "not_found");
        public.get("/healthz").expect(200);
    }
    let admin = Client::new(address, Transcript::default());
    let readiness = admin.get("/readyz").expect(200).json();
    assert_eq!((&readiness["ready"], &readiness["position"]), (&json!(true), &json!(3)));
    assert_eq!(readiness["signing_refused"], json!(null));
    assert!(admin.get("/metrics").expect(200).text().contains("keyledger_log_position 3"));
    admin.get("/healthz").expect(200);
    // Nothing is managed or verified there, whatever the credential.
    let root = admin.with_token(server.root_token());
    for path in ["/v1/keys", "/console", "/docs", "/log/checkpoint", "/.well-known/jwks.json"] {
        assert_eq!(root.get(path).try_send().unwrap().status, 404, "{path}");
    }
    let body = json!({ "token": issued.token });
    assert_eq!(root.post("/v1/keys/verify", &body).try_send().unwrap().status, 404);
    assert_eq!(root.post("/v1/keys", &json!({})).try_send().unwrap().status, 404);

    // A page shows the state to whoever may see it.
    let page = Browser::sign_in(&client, server.root_token()).get("/console/overview").expect_page(200);
    assert!(page.contains("Audit trail"), "{page}");
}

#[test]
fn without_an_admin_listener_everything_is_at_the_listener() {
    let server = Server::start();
    let client = server.anonymous();
    assert_eq!(client.get("/readyz").expect(200).json()["position"], json!(1));
    client.get("/metrics").expect(200);
}
