//! A real nginx in front of a real upstream, with the configuration from the documentation.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use keyledger_tests::client::http::Client;
use keyledger_tests::data::fixture::{key, organization};
use keyledger_tests::data::token;
use keyledger_tests::poll;
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server, free_address};
use serde_json::{Value, json};

/// An upstream that answers with the request it received: method, path, headers, length of the body.
struct Upstream {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Self { address: listener.local_addr().unwrap(), requests: Arc::default() };
        let requests = Arc::clone(&upstream.requests);
        // It ends with the test's process.
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let requests = Arc::clone(&requests);
                thread::spawn(move || while Self::answer(&socket, &requests).is_some() {});
            }
        });
        upstream
    }

    fn answer(mut socket: &TcpStream, requests: &AtomicUsize) -> Option<()> {
        let mut reader = BufReader::new(socket);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let (mut headers, mut length) = (json!({}), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            let name = name.to_ascii_lowercase();
            if name == "content-length" {
                length = value.parse().ok()?;
            }
            assert!(headers.get(&name).is_none(), "{name} came twice");
            headers[name] = value.into();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        requests.fetch_add(1, Ordering::SeqCst);
        let answer =
            json!({ "method": method, "path": path, "headers": headers, "length": length }).to_string();
        let shown = if method == "HEAD" { "" } else { &answer };
        write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{shown}", answer.len()).ok()
    }
}

/// nginx with the documentation's configuration and other addresses.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(directory: &Path, keyledger: &str, upstream: SocketAddr) -> Self {
        let address = free_address();
        let template =
            fs::read_to_string(binaries::workspace().join("docs/nginx.conf")).expect("the configuration");
        let mut configuration = template.clone();
        let (upstream, own) = (upstream.to_string(), address.to_string());
        for (shown, real) in
            [("127.0.0.1:7070", keyledger), ("127.0.0.1:8080", &upstream), ("127.0.0.1:8000", &own)]
        {
            assert_eq!(template.matches(shown).count(), 1, "{shown}");
            configuration = configuration.replace(shown, real);
        }
        let path = directory.join("nginx.conf");
        fs::write(&path, configuration).unwrap();
        let program =
            ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].into_iter().find(|path| Path::new(path).exists());
        let child = Command::new(program.unwrap_or("nginx"))
            .arg("-p")
            .arg(directory)
            .arg("-c")
            .arg(&path)
            .args(["-g", "daemon off;"])
            .stdin(Stdio::null())
            .stderr(fs::File::create(directory.join("nginx.log")).unwrap())
            .spawn()
            .expect("nginx is not installed: run tests/tools-install.sh test");
        poll::until("nginx to listen", Duration::from_secs(10), || TcpStream::connect(address).ok());
        Self { child, address }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The main process ends its workers only on a graceful signal.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

const IDENTITY: [&str; 5] = [
    "x-keyledger-key-id",
    "x-keyledger-organization-id",
    "x-keyledger-user-id",
    "x-keyledger-environment",
    "x-keyledger-scopes",
];

/// Checks that the headers of the largest identity reach the upstream.
fn check_longest_answer(client: &Client, outside: &Client, organization: &str) {
    let scope = |index: usize| format!("{index:0>128}");
    let longest =
        json!({ "user_id": "\u{1F511}".repeat(255), "scopes": (0..100).map(scope).collect::<Vec<_>>() });
    let longest = key(client, organization, longest);
    let seen = outside.with_token(&longest.token).get("/").expect(200).json();
    assert_eq!(seen["headers"]["x-keyledger-scopes"].as_str().unwrap().len(), 100 * 129 - 1);
    assert_eq!(seen["headers"]["x-keyledger-user-id"].as_str().unwrap().len(), 255 * 12);
}

/// Checks that requests of any size and method reach the upstream unchanged.
fn check_bodies(caller: &Client) {
    for (method, length) in [("POST", 3), ("PUT", 500_000), ("PATCH", 70_000), ("DELETE", 0), ("OPTIONS", 0)]
    {
        let body = vec![b'x'; length];
        let seen = caller.request(method, "/things").body("text/plain", &body).expect(200).json();
        assert_eq!((&seen["method"], &seen["length"]), (&json!(method), &json!(length)));
    }
    caller.request("HEAD", "/").expect(200);
    let encoded = caller.get("/a%2Fb/%C3%BC?q=%26").expect(200).json();
    assert_eq!(encoded["path"], "/a%2Fb/%C3%BC?q=%26");
}

#[test]
fn nginx_admits_valid_keys_and_refuses_others() {
    let server = Server::start();
    let client = server.client();
    let upstream = Upstream::start();
    let directory = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(directory.path(), &client.address().to_string(), upstream.address);
    let outside = Client::new(nginx.address, server.transcript().clone());
    let organization = organization(&client, "paid");
    let api = keyledger_tests::data::fixture::api(&client, &["read:users", "write:users"]);
    let scopes = json!(["read:users", "write:users"]);
    let good =
        key(&client, &organization, json!({ "user_id": "ünser user", "api_id": api, "scopes": scopes }));

    // A valid key: the request passes, with the key's identity.
    let seen = outside.with_token(&good.token).get("/orders/7?x=1").expect(200).json();
    assert_eq!((&seen["method"], &seen["path"]), (&json!("GET"), &json!("/orders/7?x=1")));
    let headers = &seen["headers"];
    assert_eq!(headers["x-keyledger-key-id"], good.id);
    assert_eq!(headers["x-keyledger-organization-id"], organization);
    assert_eq!(headers["x-keyledger-environment"], "production");
    assert_eq!(headers["x-keyledger-scopes"], "read:users write:users");
    assert_eq!(headers["x-keyledger-user-id"], "%C3%BCnser%20user");
    assert!(!seen.to_string().contains(&good.token), "the upstream does not see the token");
    let by_key = outside.get("/").header("x-api-key", &good.token).expect(200).json();
    assert_eq!(by_key["headers"]["x-keyledger-key-id"], good.id);

    check_longest_answer(&client, &outside, &organization);

    // Forged identity headers are replaced, even when there is no value to replace them with.
    let plain = key(&client, &organization, json!({}));
    let forger = outside.with_token(&plain.token);
    let mut forged = forger.get("/");
    for name in IDENTITY {
        forged = forged.header(name, "forged");
    }
    let seen = forged.expect(200).json();
    assert!(!seen.to_string().contains("forged"), "{seen}");
    assert_eq!(seen["headers"]["x-keyledger-key-id"], plain.id);
    assert!(matches!(seen["headers"].get("x-keyledger-user-id"), None | Some(Value::String(_))));

    check_bodies(&outside.with_token(&good.token));

    // No key, a malformed token, an unknown token: 401 with the challenge, and the upstream gets no request.
    let before = upstream.requests.load(Ordering::SeqCst);
    for request in [
        outside.get("/"),
        outside.with_token("garbage").get("/"),
        outside.with_token(&token::unknown("kl", "live")).get("/"),
        outside.get("/").header("x-api-key", ""),
    ] {
        let refused = request.expect(401);
        assert!(refused.header("www-authenticate").is_some_and(|it| it.starts_with("Bearer")));
    }
    // A revoked key is refused on the very next request, and accepted on the very next one after its
    // reactivation.
    for _ in 0..20 {
        client.post(&good.path("/revoke"), &json!({})).expect(200);
        outside.with_token(&good.token).get("/").expect(403);
        client.post(&good.path("/reactivate"), &json!({})).expect(200);
        outside.with_token(&good.token).get("/").expect(200);
    }
    assert_eq!(upstream.requests.load(Ordering::SeqCst), before + 20);
    client.delete(&good.path("")).expect(204);
    outside.with_token(&good.token).get("/").expect(401);
}

#[test]
fn clients_of_nginx_cannot_choose_their_address() {
    let arguments = ["--trusted-proxy", "127.0.0.1/32"].map(str::to_owned).to_vec();
    let server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let (upstream, directory) = (Upstream::start(), tempfile::tempdir().unwrap());
    let nginx = Nginx::start(directory.path(), &client.address().to_string(), upstream.address);
    let outside = Client::new(nginx.address, server.transcript().clone());
    let issued = key(&client, &organization(&client, "paid"), json!({}));
    let caller = outside.with_token(&issued.token);
    let request =
        caller.get("/").header("x-forwarded-for", "203.0.113.66").header("forwarded", "for=203.0.113.66");
    request.header("cookie", "a=b").expect(200);
    assert_eq!(client.get(&issued.path("/usage")).expect(200).json()["last_verified_ip"], "127.0.0.1");
}

#[test]
fn nginx_can_use_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    // nginx runs its workers as an unprivileged user.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = format!("unix:{}", directory.path().join("keyledger.sock").display());
    let arguments = vec!["--listen".into(), socket.clone()];
    let server = Server::start_with(Options { arguments, ..Options::default() });
    let client = server.client();
    let upstream = Upstream::start();
    let nginx = Nginx::start(directory.path(), &socket, upstream.address);
    let outside = Client::new(nginx.address, server.transcript().clone());
    let issued = key(&client, &organization(&client, "paid"), json!({}));
    let caller = outside.with_token(&issued.token);
    assert_eq!(caller.get("/").expect(200).json()["headers"]["x-keyledger-key-id"], issued.id);
    client.post(&issued.path("/revoke"), &json!({})).expect(200);
    caller.get("/").expect(403);
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 1);
}

#[test]
fn any_method_and_path_is_verified_and_no_body_is_read() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let api = keyledger_tests::data::fixture::api(&client, &["a", "b"]);
    let good = key(&client, &organization, json!({ "api_id": api, "scopes": ["a"] }));
    let gateway = client.anonymous();
    let methods =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "X-OWN"];
    for method in methods {
        for path in ["", "/", "/orders/7", "/o%2Fx?k=1", "/a/b/c/", "/?utm=x"] {
            let answer = gateway
                .with_token(&good.token)
                .request(method, &format!("/v1/forward-auth{path}"))
                .expect(200);
            for name in IDENTITY {
                assert!(answer.header(name).is_some(), "{method} {path} lacks {name}");
            }
        }
    }
    // The body is announced and never sent.
    let mut socket = TcpStream::connect(client.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!(
        "POST /v1/forward-auth/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 1000000\r\n\r\n",
        good.token
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut status = String::new();
    BufReader::new(&socket).read_line(&mut status).unwrap();
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
}

#[test]
fn the_query_demands_what_a_key_must_have() {
    let server = Server::start();
    let client = server.client();
    let organization = organization(&client, "paid");
    let api = keyledger_tests::data::fixture::api(&client, &["a", "b"]);
    let good = key(&client, &organization, json!({ "api_id": api, "scopes": ["a"] }));
    let gateway = client.anonymous();
    let check = |query: &str, status: u16, code: &str| {
        // Folding changes none of these. They are 403 by themselves.
        for fold in ["", "deny=403"] {
            let path = format!("/v1/forward-auth?{query}&{fold}");
            let answer = gateway.with_token(&good.token).get(&path).expect(status);
            assert_eq!(answer.header("x-keyledger-code"), Some(code), "{path}");
        }
    };
    check("environment=production", 200, "VALID");
    check("environment=preview", 403, "WRONG_ENVIRONMENT");
    check(&format!("api_id={api}&scope=a"), 200, "VALID");
    check("api_id=api_01KAJX7Q5M3J6S2Y9W8V4T1R0P", 403, "WRONG_API");
    check("scope=b", 403, "INSUFFICIENT_SCOPE");
    check("scope=a%20b", 403, "INSUFFICIENT_SCOPE");
    // A request with wrong parameters is refused, and the answer says what is wrong with it.
    for (query, pointer) in [
        ("scopes=b", "?scopes"),
        ("scope=", "?scope"),
        ("scope=a&scope=b", "?scope"),
        ("environment=staging", "?environment"),
        ("deny=401", "?deny"),
        ("api_id=", "?api_id"),
    ] {
        let answer = gateway.with_token(&good.token).get(&format!("/v1/forward-auth?{query}")).expect(403);
        assert_eq!(answer.header("x-keyledger-code"), Some("BAD_QUERY"), "{query}");
        assert_eq!(answer.code(), "bad_query", "{query}");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{query}");
    }
    // Below the path the query may be the client's. It can only add demands, and other parameters are
    // ignored.
    let below = |query: &str, status: u16, code: &str| {
        for path in ["/", "/orders/7"] {
            let path = format!("/v1/forward-auth{path}?{query}");
            let answer = gateway.with_token(&good.token).get(&path).expect(status);
            assert_eq!(answer.header("x-keyledger-code"), Some(code), "{path}");
        }
    };
    for others in [
        "utm=x",
        "scopes=b",
        "deny=401",
        "deny=&deny=no",
        "q=%ff&&=",
        &format!("organization_id={organization}"),
    ] {
        below(others, 200, "VALID");
    }
    below("environment=preview", 403, "WRONG_ENVIRONMENT");
    below("scope=b&utm=x", 403, "INSUFFICIENT_SCOPE");
    below("environment=staging", 403, "BAD_QUERY");
    below("scope=a&scope=b", 403, "BAD_QUERY");
    below("organization_id=other&deny=403", 403, "WRONG_ORGANIZATION");
    client.post(&good.path("/revoke"), &json!({})).expect(200);
    check("", 403, "REVOKED");
}

/// User ids differ even in characters that the ends of a header would lose.
#[test]
fn user_ids_are_encoded_without_loss() {
    let server = Server::start();
    let client = server.client();
    let (organization, gateway) = (organization(&client, "paid"), client.anonymous());
    let mut seen = Vec::new();
    for user_id in [" lead", "lead", "lead ", "l%20ead", "l ead"] {
        let token = key(&client, &organization, json!({ "user_id": user_id })).token;
        // A client's own header does not make a gateway wait.
        let gateway = gateway.with_token(&token);
        let request = gateway.get("/v1/forward-auth").header("keyledger-min-position", "999999999");
        let answer = request.expect(200);
        let shown = answer.header("x-keyledger-user-id").unwrap().to_owned();
        assert!(!seen.contains(&shown), "{user_id:?}: {shown}");
        seen.push(shown);
    }
    assert_eq!(seen, ["%20lead", "lead", "lead%20", "l%2520ead", "l%20ead"]);
}
