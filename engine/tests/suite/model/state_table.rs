//! The model: the state table of keys, and the rules of organizations, portfolios and policies, written as
//! plainly as possible. It shares no rule with the engine.

use std::collections::BTreeMap;

use keyledger_engine::domain::organization::OrganizationKind;

use super::ask::{Ask, AskOwner, key_of};

/// State of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelKey {
    pub(super) organization: usize,
    /// Client that the key is for, and how often it had been linked when the key was created.
    pub(super) client: Option<(usize, u32)>,
    pub(super) user: Option<u8>,
    pub(super) created_at: i64,
    pub(super) name: Option<String>,
    pub(super) revoked: bool,
    pub(super) expires_at: Option<i64>,
    pub(super) expiry_recorded: bool,
    pub(super) deleted: bool,
    pub(super) token: u8,
    pub(super) events: u32,
}

impl ModelKey {
    pub(super) fn status(&self, now: i64) -> &'static str {
        if self.deleted {
            "deleted"
        } else if self.expiry_recorded || self.expires_at.is_some_and(|end| end <= now) {
            "expired"
        } else if self.revoked {
            "revoked"
        } else {
            "active"
        }
    }
}

/// Policy of an organization for production, the only environment in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ModelPolicy {
    pub(super) max_life_seconds: Option<i64>,
    pub(super) max_keys_per_user: Option<usize>,
    pub(super) name_required: bool,
}

impl ModelPolicy {
    pub(super) fn forbids_end(&self, created_at: i64, end: Option<i64>) -> bool {
        let max = self.max_life_seconds.map(|seconds| seconds * 1_000);
        max.is_some_and(|max| end.is_none_or(|end| end - created_at > max))
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ModelOrganization {
    pub(super) kind: OrganizationKind,
    pub(super) deleted: bool,
    pub(super) policy: Option<ModelPolicy>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ModelLink {
    pub(super) linked: bool,
    pub(super) times: u32,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) keys: BTreeMap<usize, ModelKey>,
    pub(super) organizations: Vec<ModelOrganization>,
    /// By partner and client.
    pub(super) links: BTreeMap<(usize, usize), ModelLink>,
    pub(super) events: u64,
    pub(super) tokens: u8,
}

impl Model {
    /// Executes a command: returns the number of events, or the word for the rejection.
    pub(super) fn answer(&mut self, ask: &Ask, now: i64) -> Result<u64, &'static str> {
        let events = self.decide(ask, now)?;
        self.events += events;
        if let Some(key) = key_of(ask).and_then(|key| self.keys.get_mut(&key)) {
            key.events += events as u32;
        }
        Ok(events)
    }

    pub(super) fn decide(&mut self, ask: &Ask, now: i64) -> Result<u64, &'static str> {
        match ask {
            Ask::Create { .. } => self.decide_on_new_key(ask, now),
            Ask::DeleteOrganization(organization) => {
                let organization = &mut self.organizations[*organization];
                if organization.deleted {
                    return Err("organization deleted");
                }
                organization.deleted = true;
                Ok(1)
            }
            Ask::SetPolicy { organization, policy } => {
                let organization = &mut self.organizations[*organization];
                if organization.deleted {
                    return Err("organization deleted");
                }
                if policy.is_none() && organization.policy.is_none() {
                    return Err("no policy");
                }
                let changed = organization.policy != *policy;
                organization.policy = *policy;
                Ok(u64::from(changed))
            }
            Ask::Link { partner, client } => {
                let (from, to) = (self.organizations[*partner], self.organizations[*client]);
                if from.deleted {
                    return Err("organization deleted");
                }
                if from.kind != OrganizationKind::Partner {
                    return Err("no partner");
                }
                if partner == client {
                    return Err("itself");
                }
                if to.deleted {
                    return Err("organization deleted");
                }
                let link = self.links.entry((*partner, *client)).or_default();
                if link.linked {
                    return Ok(0);
                }
                *link = ModelLink { linked: true, times: link.times + 1 };
                Ok(1)
            }
            Ask::Unlink { partner, client } => match self.links.get_mut(&(*partner, *client)) {
                Some(link) if link.linked => {
                    link.linked = false;
                    Ok(1)
                }
                _ => Err("not linked"),
            },
            _ => self.decide_on_key(ask, now),
        }
    }

    fn decide_on_new_key(&mut self, ask: &Ask, now: i64) -> Result<u64, &'static str> {
        let Ask::Create { key, organization, owner, name, expires_in } = ask else { return Err("another") };
        if self.keys.contains_key(key) {
            return Err("exists");
        }
        let ModelOrganization { kind, deleted, policy } = self.organizations[*organization];
        if deleted {
            return Err("organization deleted");
        }
        if kind == OrganizationKind::Free {
            return Err("kind");
        }
        if matches!(owner, AskOwner::Partner | AskOwner::Client(_)) && kind != OrganizationKind::Partner {
            return Err("no partner");
        }
        let client = match owner {
            AskOwner::Organization | AskOwner::User(_) | AskOwner::Partner => None,
            AskOwner::Client(client) => {
                let link = self.links.get(&(*organization, *client)).copied().unwrap_or_default();
                if !link.linked || self.organizations[*client].deleted {
                    return Err("not in portfolio");
                }
                Some((*client, link.times))
            }
        };
        let expires_at = expires_in.map(|millis| now + millis);
        if expires_at.is_some_and(|end| end <= now) {
            return Err("past");
        }
        let user = if let AskOwner::User(user) = owner { Some(*user) } else { None };
        if policy.is_some_and(|policy| {
            policy.forbids_end(now, expires_at)
                || policy.name_required && name.is_none()
                || user.is_some_and(|user| self.has_enough_keys(*organization, user, policy, now))
        }) {
            return Err("policy");
        }
        self.tokens = self.tokens.wrapping_add(1);
        let (token, name, organization) = (self.tokens, name.clone(), *organization);
        let new = ModelKey {
            organization,
            client,
            user,
            created_at: now,
            name,
            revoked: false,
            expires_at,
            expiry_recorded: false,
            deleted: false,
            token,
            events: 0,
        };
        self.keys.insert(*key, new);
        Ok(1)
    }

    pub(super) fn has_enough_keys(
        &self,
        organization: usize,
        user: u8,
        policy: ModelPolicy,
        now: i64,
    ) -> bool {
        let of_user = |key: &&ModelKey| {
            key.organization == organization && key.user == Some(user) && key.status(now) == "active"
        };
        policy.max_keys_per_user.is_some_and(|max| self.keys.values().filter(of_user).count() >= max)
    }

    pub(super) fn decide_on_key(&mut self, ask: &Ask, now: i64) -> Result<u64, &'static str> {
        let enough = key_of(ask).and_then(|key| self.keys.get(&key)).is_some_and(|key| {
            let policy = self.organizations[key.organization].policy;
            let user = key.user.zip(policy);
            user.is_some_and(|(user, policy)| self.has_enough_keys(key.organization, user, policy, now))
        });
        let Some(key) = key_of(ask).and_then(|key| self.keys.get_mut(&key)) else { return Err("unknown") };
        let client_gone = key.client.is_some_and(|(client, times)| {
            let link = self.links[&(key.organization, client)];
            self.organizations[client].deleted || !link.linked || link.times != times
        });
        let policy = self.organizations[key.organization].policy;
        let organization_deleted = self.organizations[key.organization].deleted || client_gone;
        if let Ask::RecordExpiry(_) = ask {
            let due = !key.deleted && !key.expiry_recorded && key.expires_at.is_some_and(|end| end <= now);
            key.expiry_recorded |= due;
            return Ok(u64::from(due));
        }
        let status = key.status(now);
        if status == "deleted" || (organization_deleted && !matches!(ask, Ask::Delete(_))) {
            return Err("deleted");
        }
        match (ask, status) {
            (Ask::Delete(_), _) => key.deleted = true,
            (Ask::Rename { name, .. }, _) => {
                if key.name == *name {
                    return Ok(0);
                }
                if name.is_none() && policy.is_some_and(|policy| policy.name_required) {
                    return Err("policy");
                }
                key.name.clone_from(name);
            }
            (Ask::SetExpiry { expires_in, .. }, _) => {
                let end = expires_in.map(|millis| now + millis);
                if end == key.expires_at {
                    return Ok(0);
                }
                if status == "expired" {
                    return Err("expired");
                }
                if end.is_some_and(|end| end <= now) {
                    return Err("past");
                }
                if policy.is_some_and(|policy| policy.forbids_end(key.created_at, end)) {
                    return Err("policy");
                }
                key.expires_at = end;
            }
            (_, "expired") => return Err("expired"),
            (Ask::Revoke(_), "active") => key.revoked = true,
            (Ask::Revoke(_), _) => return Err("already revoked"),
            (Ask::Reactivate(_), "revoked") if enough => return Err("policy"),
            (Ask::Reactivate(_), "revoked") => key.revoked = false,
            (Ask::Reactivate(_), _) => return Err("not revoked"),
            (Ask::Rotate(_), "revoked") => return Err("revoked"),
            _ => {
                self.tokens = self.tokens.wrapping_add(1);
                key.token = self.tokens;
            }
        }
        Ok(1)
    }
}
