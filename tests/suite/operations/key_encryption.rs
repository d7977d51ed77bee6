//! One key-encryption key wraps every other secret key: with it everything works, and without it nothing
//! opens.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use keyledger_tests::data::fixture::{access_token, application, code, key, listed, organization};
use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The files that a key-encryption key protects.
const KEY_FILES: [&str; 3] = ["log-key", "webhook-key", "signing-keys.json"];

/// Files with key-encryption keys, apart from every data directory.
struct Keks(TempDir);

impl Keks {
    fn new() -> Self {
        let keks = Self(tempfile::tempdir().unwrap());
        for (number, name) in ["one", "two"].into_iter().enumerate() {
            let text: String = (0..32).map(|byte| format!("{:02x}", byte * 7 + number)).collect();
            fs::write(keks.0.path().join(name), format!("{text}\n")).unwrap();
        }
        keks
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The arguments that name a key.
    fn file(&self, name: &str) -> Vec<String> {
        vec!["--kek-file".into(), self.path(name)]
    }
}

/// Every start listens on another port, and the public URL is the issuer of access tokens.
fn options(arguments: &[String]) -> Options {
    let issuer = ["--public-url", "http://keys.example"].map(str::to_owned);
    Options { arguments: [arguments, &issuer].concat(), ..Options::default() }
}

fn run(program: &str, arguments: &[&str], more: &[String], data: &Path) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(binaries::path(program))
        .args(arguments)
        .args(more)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

#[track_caller]
fn works(program: &str, arguments: &[&str], more: &[String], data: &Path) -> String {
    let (code, said) = run(program, arguments, more, data);
    assert_eq!(code, Some(0), "{arguments:?} {more:?}: {said}");
    said
}

#[track_caller]
fn refused(program: &str, arguments: &[&str], more: &[String], data: &Path, words: &[&str]) {
    let (code, said) = run(program, arguments, more, data);
    assert!(code == Some(2) && said.lines().count() == 1, "{arguments:?} {more:?}: {code:?}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{words:?} are not all in: {said}");
}

/// A server with a named key, an access token and a webhook, and so with every secret key.
struct Furnished {
    server: Server,
    organization: String,
    token: String,
    access_token: String,
    webhook_secret: Value,
}

impl Furnished {
    fn start(arguments: &[String]) -> Self {
        let server = Server::start_with(options(arguments));
        let client = server.client();
        let organization = organization(&client, "paid");
        let issued = key(&client, &organization, json!({ "name": "Ada's key", "user_id": "ada" }));
        let application = application(&client, &["keys:read"], None);
        let hook = json!({ "url": "https://receiver.example/hook", "organization_id": organization });
        let secret = client.post("/v1/webhooks", &hook).expect(201).json()["secret"].clone();
        let access_token = access_token(&client, &application);
        server.transcript().issue(&access_token);
        Self { organization, token: issued.token, access_token, webhook_secret: secret, server }
    }

    /// Restarts the server and checks that every secret key is what it was.
    #[track_caller]
    fn restarts(&mut self, arguments: &[String]) {
        self.server.set_options(options(arguments));
        self.server.start_again();
        let client = self.server.client();
        assert_eq!(code(&client, &self.token), "VALID");
        let keys = listed(&client, &format!("/v1/keys?organization_id={}", self.organization));
        assert_eq!(keys["data"][0]["name"], "Ada's key", "the vault opens what it sealed");
        client.with_token(&self.access_token).get("/v1/keys").expect(200);
        client.get("/log/checkpoint").expect(200);
        self.server.stop();
    }
}

fn is_wrapped(path: &Path) -> bool {
    fs::read(path).unwrap().starts_with(b"KEYLEDGER+WRAPPED+")
}

#[test]
fn without_the_key_encryption_key_nothing_opens() {
    let keks = Keks::new();
    let (one, two) = (keks.file("one"), keks.file("two"));
    let mut furnished = Furnished::start(&one);
    furnished.server.stop();
    let data = furnished.server.data();
    assert!(KEY_FILES.iter().all(|name| is_wrapped(&data.join(name))));
    for (file, name) in [("one", "a"), ("two", "b")] {
        let text = fs::read_to_string(keks.path(file)).unwrap();
        let bytes = fs::read(data.join("vault.redb")).unwrap();
        assert!(!bytes.windows(64).any(|it| it == text.trim().as_bytes()), "{name}");
    }
    furnished.restarts(&one);
    let by_command = vec!["--kek-command".to_owned(), format!("cat '{}'", keks.path("one"))];
    furnished.restarts(&by_command);

    let address = keyledger_tests::processes::server::free_address().to_string();
    let serve = ["serve", "--listen", &address];
    refused("keyledger", &serve, &[], &data, &["signing-keys.json", "--kek-file or --kek-command"]);
    refused("keyledger", &serve, &two, &data, &["signing-keys.json", "not with the given one"]);
    fs::write(keks.path("none"), "x").unwrap();
    refused("keyledger", &serve, &keks.file("none"), &data, &["none: not a key of 32 random bytes"]);
    refused(
        "keyledger",
        &serve,
        &keks.file("missing"),
        &data,
        &["missing: the key-encryption key cannot be read"],
    );
    let failing = vec!["--kek-command".to_owned(), "exit 1".to_owned()];
    refused("keyledger", &serve, &failing, &data, &["--kek-command", "exit status: 1"]);
    refused("keyledger", &["signing-key", "rotate"], &[], &data, &["signing-keys.json", "--kek-file"]);
    refused("keyledger", &["root-key", "create"], &[], &data, &["--kek-file"]);
    works("keyledger", &["log-key"], &[], &data);

    // The replay tool takes the same options, also from the environment.
    for command in [&["verify"][..], &["diff"], &["stats"], &["export", "--format", "ndjson"], &["rebuild"]] {
        refused("replay-tool", command, &[], &data, &["vault.redb", "--kek-file"]);
        refused("replay-tool", command, &two, &data, &["vault.redb", "not with the given one"]);
        works("replay-tool", command, &one, &data);
    }
    assert!(
        works("replay-tool", &["export", "--format", "ndjson"], &by_command, &data).contains("Ada's key")
    );
    let erase = ["erase", "--organization", &furnished.organization, "--user", "nobody"];
    refused("replay-tool", &erase, &two, &data, &["vault.redb"]);
    works("keyledger", &["signing-key", "rotate"], &one, &data);
    works("keyledger", &["root-key", "create"], &one, &data);
    furnished.restarts(&one);

    // A key in clear is not accepted in place of a wrapped one: somebody else may have put it there.
    let log_key = fs::read(data.join("log-key")).unwrap();
    fs::write(data.join("log-key"), "PRIVATE+KEY+x\n").unwrap();
    refused("keyledger", &serve, &one, &data, &["log-key: not wrapped"]);
    // Nor is another wrapped key.
    fs::copy(data.join("webhook-key"), data.join("log-key")).unwrap();
    refused("keyledger", &serve, &one, &data, &["log-key: the wrapped key does not open"]);
    fs::write(data.join("log-key"), log_key).unwrap();
    furnished.restarts(&one);
}

#[test]
fn the_key_encryption_key_is_changed_added_and_removed() {
    let keks = Keks::new();
    let (one, two, none) = (keks.file("one"), keks.file("two"), Vec::new());
    let mut furnished = Furnished::start(&none);
    let data = furnished.server.data();
    let rekey = |from: &[String], to: &[&str]| works("replay-tool", &[&["rekey"], to].concat(), from, &data);
    refused("replay-tool", &["rekey", "--no-kek"], &none, &data, &["in use"]);
    furnished.server.stop();
    let before: Vec<_> = KEY_FILES.iter().map(|name| fs::read(data.join(name)).unwrap()).collect();
    assert!(KEY_FILES.iter().all(|name| !is_wrapped(&data.join(name))));
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    refused("keyledger", &serve, &one, &data, &["not wrapped", "replay-tool rekey --new-kek-file"]);
    refused("replay-tool", &["rekey"], &none, &data, &["--new-kek-file"]);

    let said = rekey(&none, &["--new-kek-file", &keks.path("one")]);
    assert!(
        ["vault.redb", "log-key", "webhook-key", "signing-keys.json"].iter().all(|it| said.contains(it)),
        "{said}"
    );
    assert!(KEY_FILES.iter().all(|name| is_wrapped(&data.join(name))));
    furnished.restarts(&one);
    let command = format!("cat '{}'", keks.path("two"));
    let _ = rekey(&one, &["--new-kek-command", &command]);
    furnished.restarts(&two);
    refused("keyledger", &serve, &one, &data, &["not with the given one"]);
    refused("replay-tool", &["rekey", "--no-kek"], &one, &data, &["not with the given one"]);
    assert!(rekey(&one, &["--new-kek-file", &keks.path("two")]).contains("nothing to do"));

    // A run that was interrupted leaves some files as they were. It can be repeated.
    let some: Vec<_> =
        ["vault.redb", "webhook-key"].map(|name| (name, fs::read(data.join(name)).unwrap())).into();
    let _ = rekey(&two, &["--new-kek-file", &keks.path("one")]);
    for (name, bytes) in &some {
        fs::write(data.join(name), bytes).unwrap();
    }
    refused("keyledger", &serve, &one, &data, &["finish an interrupted `replay-tool rekey`"]);
    let said = rekey(&two, &["--new-kek-file", &keks.path("one")]);
    assert!(said.contains("vault.redb, webhook-key") && !said.contains("log-key,"), "{said}");
    furnished.restarts(&one);

    let said = rekey(&one, &["--no-kek"]);
    assert!(said.contains("in clear"), "{said}");
    let after: Vec<_> = KEY_FILES.iter().map(|name| fs::read(data.join(name)).unwrap()).collect();
    assert_eq!(before, after, "the keys are the same");
    furnished.restarts(&none);
    assert!(furnished.webhook_secret.is_string());
}

#[test]
fn a_backup_is_restored_under_its_key_encryption_key() {
    let keks = Keks::new();
    let one = keks.file("one");
    let mut furnished = Furnished::start(&one);
    furnished.server.stop();
    let (data, place) = (furnished.server.data(), tempfile::tempdir().unwrap());
    let backup = place.path().join("backup");
    let backup = backup.to_str().unwrap();
    refused("replay-tool", &["backup", backup], &[], &data, &["log-key", "--kek-file"]);
    works("replay-tool", &["backup", backup, "--with-keys"], &one, &data);
    let restored = place.path().join("data");
    // The signature needs no key-encryption key to be checked.
    works("replay-tool", &["restore", backup], &[], &restored);
    fs::copy(data.join("vault.redb"), restored.join("vault.redb")).unwrap();
    assert!(
        KEY_FILES
            .iter()
            .all(|name| fs::read(restored.join(name)).unwrap() == fs::read(data.join(name)).unwrap())
    );
    let token = furnished.server.root_token().to_owned();
    furnished.server = Server::start_in(place, &token, options(&one)).unwrap();
    furnished.server.stop();
    furnished.restarts(&one);
}
