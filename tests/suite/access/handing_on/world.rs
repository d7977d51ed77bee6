//! Credentials that mint one another at random, and the plain rule for what may come of it.

use std::collections::BTreeSet;

use chrono::DateTime;
use keyledger_tests::client::http::{Client, Request};
use keyledger_tests::data::fixture::{Application, access_token, follow, text};
use keyledger_tests::data::token;
use keyledger_tests::processes::server::Server;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

pub(super) const ORGANIZATIONS: [&str; 2] = ["acme", "zeta"];
const USERS: [&str; 2] = ["u1", "u2"];
pub(super) const ROLES: [&str; 4] = ["owner", "admin", "member", "auditor"];

/// Every permission with a request that needs it and changes nothing.
const PROBES: [(&str, &str, &str); 15] = [
    ("admin", "GET", "/v1/root-keys?limit=1"),
    ("keys:create", "POST", "/v1/keys"),
    ("keys:read", "GET", "/v1/keys?limit=1"),
    ("keys:update", "PATCH", "/v1/keys/key_x"),
    ("keys:revoke", "POST", "/v1/keys/key_x/revoke"),
    ("keys:delete", "DELETE", "/v1/keys/key_x"),
    ("keys:verify", "POST", "/v1/keys/verify"),
    ("organizations:read", "GET", "/v1/organizations?limit=1"),
    ("organizations:write", "PATCH", "/v1/organizations/nobody"),
    ("apis:read", "GET", "/v1/apis?limit=1"),
    ("apis:write", "POST", "/v1/apis"),
    ("events:read", "GET", "/v1/events?limit=1"),
    ("applications:write", "GET", "/v1/applications?limit=1"),
    ("portal:write", "GET", "/v1/portal-sessions?limit=1"),
    ("webhooks:write", "DELETE", "/v1/webhooks/wh_x"),
];

/// What a holder may do: permissions, in one organization or all, for one user's keys or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rights {
    permissions: BTreeSet<String>,
    organization: Option<String>,
    user: Option<String>,
}

impl Rights {
    pub(super) fn new(permissions: &[&str], organization: Option<&str>) -> Self {
        let permissions = permissions.iter().map(|it| (*it).to_owned()).collect();
        Self { permissions, organization: organization.map(str::to_owned), user: None }
    }

    pub(super) fn of_role(role: &str, organization: &str, user: Option<&str>) -> Self {
        let read = ["keys:read", "organizations:read", "apis:read", "events:read"];
        let own = ["keys:create", "keys:update", "keys:revoke", "keys:delete", "keys:verify"];
        let permissions = match role {
            "owner" => [&read[..], &own, &["portal:write", "webhooks:write"]].concat(),
            "admin" => [&read[..], &own].concat(),
            "member" => [&["keys:read", "apis:read"][..], &own].concat(),
            _ => read.to_vec(),
        };
        let user = user.filter(|_| role == "member").map(str::to_owned);
        Self { user, ..Self::new(&permissions, Some(organization)) }
    }

    fn may(&self, permission: &str) -> bool {
        self.permissions.contains(permission) || self.permissions.contains("admin")
    }

    fn cover(&self, other: &Self) -> bool {
        other.permissions.iter().all(|it| self.may(it))
            && (self.organization.is_none() || self.organization == other.organization)
            && (self.user.is_none() || self.user == other.user)
    }
}

/// What ends a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credential {
    RootKey(String),
    /// An access token of an application with this id, of its secret with this number.
    AccessToken(String, usize),
    Session(String),
    OpenIdUser,
}

pub(super) struct Holder {
    pub(super) credential: Credential,
    pub(super) client: Client,
    pub(super) rights: Rights,
    /// When the credential expires, in milliseconds.
    pub(super) end: Option<i64>,
    /// The holder that minted a session.
    pub(super) minter: Option<usize>,
}

pub(super) struct Known {
    application: Application,
    rights: Rights,
    secret: usize,
    is_deleted: bool,
}

pub(super) struct World<'a> {
    pub(super) server: &'a Server,
    pub(super) rng: StdRng,
    pub(super) holders: Vec<Holder>,
    pub(super) applications: Vec<Known>,
    pub(super) killed: Vec<Credential>,
    pub(super) wrong: Vec<String>,
    pub(super) granted: usize,
}

fn millis(time: &Value) -> i64 {
    DateTime::parse_from_rfc3339(&text(time)).expect("a time").timestamp_millis()
}

impl World<'_> {
    fn organization(&mut self) -> Option<&'static str> {
        [None, Some(ORGANIZATIONS[0]), Some(ORGANIZATIONS[1])][self.rng.random_range(0..3)]
    }

    /// Some permissions, with those that hand on rights more often than others.
    fn permissions(&mut self) -> Vec<&'static str> {
        let mut chosen: Vec<&str> = match self.rng.random_range(0..8_u8) {
            0 => vec!["admin"],
            1 => PROBES.iter().map(|it| it.0).filter(|it| *it != "admin").collect(),
            2 => Rights::of_role("owner", "x", None)
                .permissions
                .iter()
                .filter_map(|held| PROBES.iter().find(|it| it.0 == held).map(|it| it.0))
                .collect(),
            3 => vec!["applications:write"],
            4 => vec!["portal:write"],
            _ => Vec::new(),
        };
        let more = self.rng.random_range(0..4);
        chosen.extend(PROBES.sample(&mut self.rng, more).map(|it| it.0).filter(|it| *it != "admin"));
        if chosen.is_empty() {
            chosen.push("keys:read");
        }
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    fn is_alive(&self, number: usize) -> bool {
        let Holder { credential, minter, .. } = &self.holders[number];
        let is_current = match credential {
            Credential::AccessToken(id, secret) => self
                .applications
                .iter()
                .any(|it| it.application.id == *id && it.secret == *secret && !it.is_deleted),
            credential => !self.killed.contains(credential),
        };
        is_current && minter.is_none_or(|minter| self.mints_on(minter))
    }

    /// Whether what a holder minted is alive as far as the holder is concerned. An access token that is
    /// invalid because of a new secret leaves its sessions to their own end.
    fn mints_on(&self, minter: usize) -> bool {
        match &self.holders[minter].credential {
            Credential::AccessToken(id, _) => {
                self.applications.iter().any(|it| it.application.id == *id && !it.is_deleted)
            }
            _ => self.is_alive(minter),
        }
    }

    /// Compares an answer with what the rule says, and returns the answer if the rights were handed on.
    fn judge(&mut self, by: usize, what: &str, request: &Request<'_>, allowed: bool) -> Option<Value> {
        let answer = request.send();
        let is_granted = matches!(answer.status, 200 | 201 | 204);
        if is_granted != allowed || !(is_granted || matches!(answer.status, 403 | 404)) {
            let Holder { credential, rights, .. } = &self.holders[by];
            let status = answer.status;
            self.wrong.push(format!("{credential:?} {rights:?}: {what}: {status} {}", answer.text()));
        }
        self.granted += usize::from(is_granted);
        is_granted.then(|| if answer.status == 204 { Value::Null } else { answer.json() })
    }

    /// Checks what a new holder may really do.
    pub(super) fn add(&mut self, holder: Holder) {
        for (permission, method, path) in PROBES {
            let mut request = holder.client.request(method, path);
            if matches!(method, "POST" | "PATCH") {
                request = request.json(&json!({}));
            }
            let answer = request.send();
            let lacks = answer.status == 403 && answer.text().contains("the caller lacks the permission");
            // Webhooks need a second permission.
            let may = holder.rights.may(permission)
                && (permission != "webhooks:write" || holder.rights.may("events:read"));
            if lacks == may {
                let Holder { credential, rights, .. } = &holder;
                self.wrong.push(format!("{credential:?} {rights:?}: {permission}: {}", answer.text()));
            }
        }
        if let Some(end) = holder.minter.and_then(|minter| self.holders[minter].end) {
            let own = holder.end.expect("a session has an end");
            if own > end {
                self.wrong.push(format!("{:?} ends {} ms after its minter", holder.credential, own - end));
            }
        }
        self.holders.push(holder);
    }

    /// Whether hardly anything was minted, or hardly anything in several steps.
    pub(super) fn tests_little(&self) -> bool {
        let minters = self.holders.iter().filter_map(|holder| holder.minter);
        let of_sessions = minters.clone().filter(|minter| self.holders[*minter].minter.is_some());
        self.granted < 40 || minters.count() < 12 || of_sessions.count() < 4
    }

    pub(super) fn attempt(&mut self) {
        let alive: Vec<usize> = (0..self.holders.len()).filter(|it| self.is_alive(*it)).collect();
        let by = *alive.choose(&mut self.rng).unwrap();
        match self.rng.random_range(0..12_u8) {
            0 | 1 => self.create_root_key(by),
            2 | 3 => self.create_application(by),
            4 => self.edit_application(by),
            5 => self.rotate_secret(by),
            6 => self.delete_application(by),
            7 => self.create_webhook(by),
            _ => self.create_session(by),
        }
    }

    /// The organization of what a holder creates: their own, unless they name another.
    fn bound(&self, by: usize, asked: Option<&str>) -> Option<String> {
        asked.map(str::to_owned).or_else(|| self.holders[by].rights.organization.clone())
    }

    pub(super) fn create_root_key(&mut self, by: usize) {
        let (permissions, organization) = (self.permissions(), self.organization());
        let rights = Rights::new(&permissions, self.bound(by, organization).as_deref());
        let Holder { client, rights: own, .. } = &self.holders[by];
        let (client, allowed) = (client.clone(), own.may("admin") && own.cover(&rights));
        let body = json!({ "permissions": permissions, "organization_id": organization });
        let request = client.post("/v1/root-keys", &body);
        let Some(answer) = self.judge(by, &format!("root key {body}"), &request, allowed) else { return };
        let credential = Credential::RootKey(text(&answer["root_key"]["id"]));
        let client = self.server.client().with_token(&text(&answer["token"]));
        self.add(Holder { credential, client, rights, end: None, minter: None });
    }

    pub(super) fn create_application(&mut self, by: usize) {
        let (permissions, organization) = (self.permissions(), self.organization());
        let rights = Rights::new(&permissions, self.bound(by, organization).as_deref());
        let Holder { client, rights: own, .. } = &self.holders[by];
        let (client, allowed) = (client.clone(), own.may("applications:write") && own.cover(&rights));
        let body = json!({ "permissions": permissions, "organization_id": organization });
        let request = client.post("/v1/applications", &body);
        let Some(answer) = self.judge(by, &format!("application {body}"), &request, allowed) else { return };
        let application =
            Application { id: text(&answer["client_id"]), secret: text(&answer["client_secret"]) };
        self.applications.push(Known { application, rights, secret: 0, is_deleted: false });
        self.enter_application(self.applications.len() - 1);
    }

    /// Adds a holder of a new access token of an application.
    fn enter_application(&mut self, number: usize) {
        let Known { application, rights, secret, .. } = &self.applications[number];
        let (id, secret, rights) = (application.id.clone(), *secret, rights.clone());
        let token = access_token(&self.server.client(), application);
        let end = token::claims(&token)["exp"].as_i64().map(|seconds| seconds * 1_000);
        let client = self.server.client().with_token(&token);
        self.add(Holder {
            credential: Credential::AccessToken(id, secret),
            client,
            rights,
            end,
            minter: None,
        });
    }

    /// An application that was not deleted, and whether a holder may change it.
    fn application(&mut self, by: usize) -> Option<(usize, bool)> {
        let there: Vec<usize> =
            (0..self.applications.len()).filter(|it| !self.applications[*it].is_deleted).collect();
        let number = *there.choose(&mut self.rng)?;
        let own = &self.holders[by].rights;
        let may = own.may("applications:write") && own.cover(&self.applications[number].rights);
        Some((number, may))
    }

    fn edit_application(&mut self, by: usize) {
        let Some((number, may)) = self.application(by) else { return };
        let permissions = self.permissions();
        let Known { application, rights, .. } = &self.applications[number];
        let after = Rights::new(&permissions, rights.organization.as_deref());
        let path = application.path("");
        let Holder { client, rights: own, .. } = &self.holders[by];
        let (client, allowed) = (client.clone(), may && own.cover(&after));
        let body = json!({ "permissions": permissions });
        let what = format!("edit of an application with {rights:?} to {body}");
        if self.judge(by, &what, &client.patch(&path, &body), allowed).is_some() {
            let id = self.applications[number].application.id.clone();
            // Its tokens keep the scope that they were issued with, less what the application lost.
            for holder in &mut self.holders {
                if matches!(&holder.credential, Credential::AccessToken(of, _) if *of == id) {
                    let scope = std::mem::take(&mut holder.rights.permissions);
                    let before = Rights { permissions: scope, ..after.clone() };
                    let names = PROBES.iter().map(|it| it.0);
                    let both = names.filter(|it| before.may(it) && after.may(it));
                    holder.rights.permissions = both.map(str::to_owned).collect();
                }
            }
            self.applications[number].rights = after;
        }
    }

    fn rotate_secret(&mut self, by: usize) {
        let Some((number, may)) = self.application(by) else { return };
        let Known { application, rights, .. } = &self.applications[number];
        let (path, what) = (application.path("/rotate-secret"), format!("new secret of {rights:?}"));
        let client = self.holders[by].client.clone();
        if let Some(answer) = self.judge(by, &what, &client.post(&path, &json!({})), may) {
            let known = &mut self.applications[number];
            known.application.secret = text(&answer["client_secret"]);
            known.secret += 1;
            self.enter_application(number);
        }
    }

    fn delete_application(&mut self, by: usize) {
        let Some((number, may)) = self.application(by) else { return };
        let Known { application, rights, .. } = &self.applications[number];
        let (path, what) = (application.path(""), format!("end of {rights:?}"));
        let client = self.holders[by].client.clone();
        if self.judge(by, &what, &client.delete(&path), may).is_some() {
            self.applications[number].is_deleted = true;
        }
    }

    fn create_webhook(&mut self, by: usize) {
        let organization = self.organization();
        let rights = Rights::new(&["events:read"], self.bound(by, organization).as_deref());
        let Holder { client, rights: own, .. } = &self.holders[by];
        let allowed = own.may("webhooks:write") && own.may("events:read") && own.cover(&rights);
        let client = client.clone();
        let body = json!({ "url": "http://127.0.0.1:1/", "organization_id": organization });
        let request = client.post("/v1/webhooks", &body);
        if let Some(answer) = self.judge(by, &format!("webhook {body}"), &request, allowed) {
            let bound = answer["webhook"]["organization_id"].as_str().map(str::to_owned);
            if bound != rights.organization {
                self.wrong.push(format!("a webhook of {bound:?} instead of {:?}", rights.organization));
            }
        }
    }

    fn create_session(&mut self, by: usize) {
        let role = *ROLES.choose(&mut self.rng).unwrap();
        let organization = *ORGANIZATIONS.choose(&mut self.rng).unwrap();
        let user = *USERS.choose(&mut self.rng).unwrap();
        let rights = Rights::of_role(role, organization, Some(user));
        let Holder { client, rights: own, .. } = &self.holders[by];
        let (client, allowed) = (client.clone(), own.may("portal:write") && own.cover(&rights));
        let body = json!({
            "organization_id": organization,
            "role": role,
            "user_id": user,
            "link_seconds": self.rng.random_range(300..86_400),
            "session_seconds": self.rng.random_range(300..86_400),
        });
        let request = client.post("/v1/portal-sessions", &body);
        let Some(answer) = self.judge(by, &format!("session {body}"), &request, allowed) else { return };
        let session = &answer["portal_session"];
        let (id, link_end) = (text(&session["id"]), millis(&session["expires_at"]));
        if self.holders[by].end.is_some_and(|end| link_end > end) {
            self.wrong.push(format!("the link {id} outlasts {:?}", self.holders[by].credential));
        }
        let url = text(&answer["url"]);
        let (cookie, csrf_token) = follow(&self.server.client(), url.split_once('#').unwrap().1);
        let client = self.server.client().with_session(&cookie, &csrf_token);
        let own = client.get("/portal/session").expect(200).json();
        let end = Some(millis(&own["portal_session"]["expires_at"]));
        self.add(Holder { credential: Credential::Session(id), client, rights, end, minter: Some(by) });
    }

    /// Ends a credential that is still valid.
    pub(super) fn kill(&mut self) {
        let admin = self.server.client();
        let mortal =
            |it: &usize| self.holders[*it].credential != Credential::OpenIdUser && self.is_alive(*it);
        // Those that minted something first: others say little.
        let (mut minters, mut others): (Vec<usize>, Vec<usize>) = (1..self.holders.len())
            .filter(mortal)
            .partition(|it| self.holders.iter().any(|holder| holder.minter == Some(*it)));
        let chosen = if minters.is_empty() { &mut others } else { &mut minters };
        let Some(number) = chosen.choose(&mut self.rng).copied() else { return };
        let credential = self.holders[number].credential.clone();
        match &credential {
            Credential::RootKey(id) => admin.delete(&format!("/v1/root-keys/{id}")).expect(204),
            Credential::Session(id) => admin.delete(&format!("/v1/portal-sessions/{id}")).expect(204),
            Credential::AccessToken(id, _) => {
                let known = self.applications.iter_mut().find(|it| it.application.id == *id).unwrap();
                known.is_deleted = true;
                admin.delete(&known.application.path("")).expect(204)
            }
            Credential::OpenIdUser => unreachable!("nothing ends it"),
        };
        self.killed.push(credential);
    }

    /// Compares who is let in with who should be.
    pub(super) fn check_alive(&mut self, when: &str) {
        for number in 0..self.holders.len() {
            let answer = self.holders[number].client.get("/v1/apis?limit=1").send();
            if (answer.status == 401) == self.is_alive(number) {
                let Holder { credential, minter, .. } = &self.holders[number];
                let by = minter.map(|minter| &self.holders[minter].credential);
                self.wrong.push(format!("{when}: {credential:?}, minted by {by:?}: {}", answer.status));
            }
        }
    }
}
