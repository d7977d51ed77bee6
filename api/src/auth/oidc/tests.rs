//! Which tokens let a user in.

use keyledger_engine::kek::key_file::KeyFile;
use keyledger_engine::storage::data_directory::{DataDirectory, SIGNING_KEYS};

use super::code_flow::is_issued_to;
use super::*;
use crate::auth::signing_keys::{ALGORITHM, SigningKeys};

const ISSUER: &str = "https://id.example.com";
const AUDIENCE: &str = "https://keys.example/api";

/// A provider whose keys are known, and its signing key.
struct Signing {
    provider: OpenIdProvider,
    keys: SigningKeys,
    now: Timestamp,
    _directory: tempfile::TempDir,
}

impl Signing {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = DataDirectory::existing(directory.path()).unwrap().signing_keys();
        let keys = SigningKeys::open(KeyFile::new(path, SIGNING_KEYS, None)).unwrap();
        let now = Timestamp::from_millis(1_790_000_000_000);
        let set = keys.with_current(now).unwrap();
        let jwk = set.jwks().keys.remove(0);
        let known =
            Keys { keys: vec![(jwk.clone(), DecodingKey::from_jwk(&jwk).unwrap())], fetched_at: None };
        let provider = OpenIdProvider::new(Options {
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
            role_claim: "role".into(),
            organization_claim: "organization_id".into(),
            client: None,
        });
        let mut provider = provider.unwrap();
        provider.keys = RwLock::new(known);
        Self { provider, keys, now, _directory: directory }
    }

    /// A token of this type with these claims beside the usual ones.
    fn token(&self, typ: Option<&str>, others: Value) -> String {
        let keys = self.keys.keys();
        let key = keys.current().unwrap();
        let header = jsonwebtoken::Header {
            typ: typ.map(Into::into),
            kid: Some(key.id.clone()),
            ..jsonwebtoken::Header::new(ALGORITHM)
        };
        let mut claims = serde_json::json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "olga",
            "exp": 4_000_000_000_u64, "role": "owner", "organization_id": "acme" });
        if let (Value::Object(claims), Value::Object(others)) = (&mut claims, others) {
            claims.extend(others);
        }
        jsonwebtoken::encode(&header, &claims, &key.private).unwrap()
    }

    fn user(&self, typ: Option<&str>, others: Value) -> Option<Arc<User>> {
        self.provider.check(&self.token(typ, others), self.now)
    }
}

#[test]
fn a_token_for_another_purpose_lets_nobody_in() {
    let signing = Signing::new();
    let nothing = || serde_json::json!({});
    for typ in [Some("at+jwt"), Some("JWT"), None] {
        assert_eq!(signing.user(typ, nothing()).unwrap().id.as_str(), "olga", "{typ:?}");
    }
    for typ in ["logout+jwt", "secevent+jwt", "dpop+jwt"] {
        assert_eq!(signing.user(Some(typ), nothing()), None, "{typ}");
    }
    // Older providers sign logout tokens as plain JWTs.
    let events =
        serde_json::json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} } });
    assert_eq!(signing.user(Some("JWT"), events), None);
    // An ID token is for a client.
    assert_eq!(signing.user(Some("JWT"), serde_json::json!({ "aud": "console", "nonce": "n" })), None);
}

#[test]
fn no_user_passes_for_another_kind_of_caller() {
    let signing = Signing::new();
    for id in ["rk", "app", "ps", "key"].map(|word| format!("{word}_01KAJX7Q5M3J6S2Y9W8V4T1R0P")) {
        assert_eq!(signing.user(None, serde_json::json!({ "sub": id })), None, "{id}");
    }
    assert_eq!(signing.user(None, serde_json::json!({ "sub": "system" })), None);
    for id in ["1001", "auth0|5f7c", "rk_1", "org_01KAJX7Q5M3J6S2Y9W8V4T1R0P", "systems"] {
        assert!(signing.user(None, serde_json::json!({ "sub": id })).is_some(), "{id}");
    }
}

#[test]
fn an_id_token_is_issued_to_the_client_that_signs_in() {
    for (claims, is_issued) in [
        (r#"{"aud":"console"}"#, true),
        (r#"{"aud":["console"]}"#, true),
        (r#"{"aud":["console"],"azp":"console"}"#, true),
        (r#"{"aud":["console","shop"],"azp":"console"}"#, true),
        (r#"{"aud":["console","shop"],"azp":"shop"}"#, false),
        (r#"{"aud":["console","shop"]}"#, false),
        (r#"{"aud":"console","azp":"shop"}"#, false),
        (r#"{"aud":"console","azp":7}"#, false),
    ] {
        assert_eq!(is_issued_to(&serde_json::from_str(claims).unwrap(), "console"), is_issued, "{claims}");
    }
}

#[test]
fn a_date_may_have_a_fraction() {
    let millis = |text: &str| millis_of(&serde_json::from_str(text).unwrap());
    assert_eq!(millis("1700000000"), Some(1_700_000_000_000));
    assert_eq!(millis("1700000000.5"), Some(1_700_000_000_500));
    assert_eq!(millis("1.7e9"), Some(1_700_000_000_000));
    for text in ["9223372036854775807", "18446744073709551615", "1e300"] {
        assert_eq!(millis(text), None, "{text}");
    }
}

#[test]
fn only_addresses_that_can_be_trusted() {
    for good in
        ["https://id.example.com/realms/a", "http://127.0.0.1:8080", "http://localhost/", "http://[::1]:1"]
    {
        assert!(check_address("x", good).is_ok(), "{good}");
    }
    for bad in
        ["http://id.example.com", "ftp://localhost", "id.example.com", "", "http://localhost.example.com"]
    {
        assert!(check_address("x", bad).is_err(), "{bad}");
    }
}

#[test]
fn no_extension_is_understood() {
    for (header, has_extensions) in [
        (r#"{"alg":"RS256","kid":"1"}"#, false),
        (r#"{"alg":"RS256","crit":["b64"],"b64":false}"#, true),
        (r#"{"alg":"RS256","crit":[]}"#, true),
        (r#"{"alg":"RS256","crit":null}"#, true),
        ("no JSON", true),
    ] {
        let token = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header));
        assert_eq!(has_critical_extensions(&token), has_extensions, "{header}");
    }
}

#[test]
fn a_role_is_a_word_or_the_greatest_of_several() {
    for (claim, role) in [
        (serde_json::json!("auditor"), Some(Role::Auditor)),
        (serde_json::json!(["everyone", "member", "admin"]), Some(Role::Admin)),
        (serde_json::json!(["everyone"]), None),
        (serde_json::json!("Owner"), None),
        (serde_json::json!(7), None),
    ] {
        assert_eq!(role_of(&claim), role, "{claim}");
    }
}
