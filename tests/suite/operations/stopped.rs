//! A data directory with a little history and no running server, and the expected answers of a server that
//! opens it.

use std::fs;
use std::path::{Path, PathBuf};

use keyledger_tests::client::http::{Client, Request};
use keyledger_tests::data::fixture::{self, key, organization, text};
use keyledger_tests::data::token;
use keyledger_tests::processes::server::{Options, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const VAULT: &str = "vault.redb";
pub(crate) const LOG: &str = "events.redb";

/// The directory of a stopped server with a little history, and that server's answers.
pub(crate) struct Stopped {
    pub(crate) directory: TempDir,
    pub(crate) root_token: String,
    answers: Answers,
}

#[derive(Debug, PartialEq, Clone)]
pub(crate) struct Answers {
    codes: Vec<String>,
    keys: Value,
    events: String,
}

impl Stopped {
    pub(crate) fn new() -> (Self, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let root_token = token::root();
        let mut server = Server::start_in(directory, &root_token, Options::default()).unwrap();
        let client = server.client();
        let organization = organization(&client, "paid");
        let mut tokens = Vec::new();
        for n in 0..60 {
            let issued =
                key(&client, &organization, json!({ "name": format!("key {n}"), "metadata": { "n": n } }));
            match n % 4 {
                0 => drop(client.post(&issued.path("/revoke"), &json!({})).expect(200)),
                1 => drop(client.patch(&issued.path(""), &json!({ "name": "renamed" })).expect(200)),
                2 if n > 30 => drop(client.delete(&issued.path("")).expect(204)),
                _ => {}
            }
            tokens.push(issued.token);
        }
        let verified = client.post("/v1/keys/verify-batch", &json!({ "tokens": &tokens[..1] })).expect(200);
        let position = verified.header("keyledger-position").expect("a position").to_owned();
        for call in ["/v1/keys", "/v1/events"] {
            client.get(call).header("keyledger-min-position", &position).expect(200);
        }
        let answers = answers(&client, &tokens).expect("an undamaged log can be read");
        assert_eq!(server.stop().code(), Some(0));
        (Self { directory: server.into_directory(), root_token, answers }, tokens)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Checks that a server gives the same answers.
    #[track_caller]
    pub(crate) fn check(&self, answers: &Answers, what: &str) {
        assert_eq!(answers.codes, self.answers.codes, "{what}: verifications");
        assert_eq!(answers.events, self.answers.events, "{what}: events");
        assert!(answers.keys == self.answers.keys, "{what}: the list says {:#}", answers.keys);
    }

    /// A copy of the data in a new directory.
    pub(crate) fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(&self.data(), &copy.path().join("data"));
        copy
    }
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Everything that a reader can see. An error if the service refuses a read.
pub(crate) fn answers(client: &Client, tokens: &[String]) -> Result<Answers, String> {
    let read = |request: Request<'_>| match request.try_send() {
        Ok(response) if response.status == 200 => Ok(response),
        Ok(response) => {
            assert_eq!((response.status, response.code().as_str()), (500, "internal"), "{}", response.text());
            Err(response.text())
        }
        Err(error) => Err(error.to_string()),
    };
    let batch = read(client.post("/v1/keys/verify-batch", &json!({ "tokens": tokens })))?.json();
    let codes = fixture::batch(&batch).iter().map(|it| text(&it["code"])).collect();
    let mut keys = read(client.get("/v1/keys?limit=200&sort=created_at"))?.json();
    for key in keys["data"].as_array_mut().unwrap() {
        // Reading changes it.
        key.as_object_mut().unwrap().remove("last_verified_at").unwrap();
    }
    let events = read(client.get("/v1/events").header("accept", "application/x-ndjson"))?.text();
    Ok(Answers { codes, keys, events })
}
