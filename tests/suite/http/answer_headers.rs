//! Headers that protect callers from caches and browsers. `standing_headers` checks those of every answer of
//! every test; here are the ones that depend on how the service is reached.

use keyledger_tests::client::console::Browser;
use keyledger_tests::client::http::Response;
use keyledger_tests::data::fixture::{key, organization};
use keyledger_tests::processes::server::{Options, Server};
use keyledger_tests::processes::tls::{Pair, curl};
use serde_json::json;

const TLS_ONLY: &str = "max-age=31536000; includeSubDomains";

fn server(arguments: &[&str]) -> Server {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    Server::start_with(Options { arguments, ..Options::default() })
}

/// The headers but those of one answer only.
fn standing(response: &Response) -> Vec<(String, String)> {
    let own =
        ["date", "content-length", "x-request-id", "keyledger-position", "location", "etag", "connection"];
    let mut standing = response.headers.clone();
    standing.retain(|(name, _)| !own.contains(&name.as_str()));
    standing.sort();
    standing
}

#[test]
fn answers_about_a_caller_are_kept_by_no_cache_whichever_path_gives_them() {
    let server = server(&["--public-url", "https://keys.example"]);
    let client = server.client();
    let organization = organization(&client, "paid");
    let issued = key(&client, &organization, json!({}));
    for path in
        ["/v1/keys", "/v1/events", "/v1/root-keys", "/v1/usage", "/v1/events/1/proof", "/readyz", "/metrics"]
    {
        let answer = client.get(path).expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("strict-transport-security"), Some(TLS_ONLY), "{path}");
    }
    // A minimum position is no plain request, so the first of each pair goes another way.
    let verify = || client.post("/v1/keys/verify", &json!({ "token": issued.token }));
    let verified = [verify().header("keyledger-min-position", "0").expect(200), verify().expect(200)];
    let create =
        || client.post("/v1/keys", &json!({ "organization_id": organization, "environment": "preview" }));
    let created = [create().header("keyledger-min-position", "0").expect(201), create().expect(201)];
    for [other, fast] in [verified, created] {
        assert_eq!(standing(&other), standing(&fast));
        assert_eq!(fast.header("strict-transport-security"), Some(TLS_ONLY));
    }
    for path in ["/.well-known/jwks.json", "/log/checkpoint", "/docs", "/openapi.json"] {
        let answer = client.get(path).expect(200);
        assert_ne!(answer.header("cache-control"), Some("no-store"), "{path} is the same for everybody");
    }
}

#[test]
fn browsers_keep_to_tls_where_there_is_tls() {
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::make(directory.path(), "good");
    let trusted = Some(pair.certificate.clone());
    let server = Server::start_with(Options { arguments: pair.arguments(), trusted, ..Options::default() });
    for path in ["/healthz", "/v1/keys", "/console/sign-in", "/docs", "/no-such-path"] {
        let url = format!("https://{}{path}", server.client().address());
        let output = curl(&pair.certificate, &["--include", &url]);
        let head = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert!(head.contains(&format!("strict-transport-security: {}", TLS_ONLY.to_lowercase())), "{head}");
    }
    let plain = Server::start().anonymous().get("/healthz").expect(200);
    assert_eq!(plain.header("strict-transport-security"), None, "there may be no TLS");
}

#[test]
fn every_cookie_is_secure_where_browsers_use_tls() {
    for (public_url, is_secure) in [("https://keys.example", true), ("http://keys.example", false)] {
        let server = server(&["--public-url", public_url]);
        let client = server.client();
        let form = [("secret", server.root_token())];
        let signed_in = client.anonymous().request("POST", "/console/sign-in").form(&form).expect(303);
        let browser = Browser::with_cookie(&client, signed_in.cookie().unwrap());
        let chosen = browser.submit("/console/theme", &[("theme", "dark")]).0;
        let created = [("name", "Acme"), ("kind", "paid")];
        let noticed = browser.submit("/console/organizations", &created).0;
        for answer in [signed_in, chosen, noticed] {
            let cookies: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
            assert!(!cookies.is_empty(), "{}", answer.text());
            assert!(cookies.iter().all(|(_, value)| value.contains("; Secure") == is_secure), "{cookies:?}");
        }
    }
}

#[test]
fn the_portal_shares_no_window() {
    let server = Server::start();
    let page = server.anonymous().get("/portal").expect(200);
    assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
}

#[test]
fn an_exposed_service_says_so_at_its_start() {
    let clear = "cross the network in clear";
    let address = "--public-url is not";
    for (arguments, expected) in [
        (&["--listen", "0.0.0.0:0"][..], &[clear][..]),
        (&["--listen", "0.0.0.0:0", "--public-url", "https://keys.example"], &[]),
        (&["--listen", "[::1]:0"], &[]),
        (&["--trusted-proxy", "127.0.0.0/8"], &[address]),
        (&["--trusted-proxy", "127.0.0.0/8", "--public-url", "https://keys.example"], &[]),
    ] {
        let output = server(arguments).output();
        for warning in [clear, address] {
            assert_eq!(output.contains(warning), expected.contains(&warning), "{arguments:?}: {output}");
        }
    }
}
