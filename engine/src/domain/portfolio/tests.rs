use super::*;
use crate::domain::organization::{Organization, OrganizationKind};
use crate::domain::rejection::Rejection;
use crate::value::id::ClientLinkId;
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;

fn organization(id: &str, kind: OrganizationKind, deleted: bool) -> Organization {
    Organization {
        id: id.parse().unwrap(),
        name: None,
        kind,
        created_at: Timestamp::from_millis(0),
        deleted_at: deleted.then_some(Timestamp::from_millis(1)),
        policies: crate::domain::policy::Policies::default(),
        version: Version::new(1),
    }
}

fn id() -> ClientLinkId {
    ClientLinkId { partner_id: "partner".parse().unwrap(), client_id: "client".parse().unwrap() }
}

fn link(since: Option<u64>) -> ClientLink {
    ClientLink {
        id: id(),
        since: since.map(Position::new),
        linked_at: Timestamp::from_millis(0),
        linked_by: "system".into(),
        version: Version::new(1),
    }
}

#[test]
fn only_an_active_partner_takes_active_clients() {
    use OrganizationKind::{Free, Paid, Partner};
    let client = organization("client", Free, false);
    let decide_for = |kind, deleted| {
        let partner = organization("partner", kind, deleted);
        let state = ClientLinkState { link: None, partner: Some(&partner), client: Some(&client) };
        decide(&id(), state, ClientLinkCommand::Link)
    };
    assert_eq!(decide_for(Partner, false).unwrap().len(), 1);
    assert_eq!(decide_for(Partner, true), Err(Rejection::OrganizationDeleted));
    assert_eq!(decide_for(Paid, false), Err(Rejection::NotAPartner(Paid)));

    let partner = organization("partner", Partner, false);
    let gone = organization("client", Paid, true);
    let state = |client| ClientLinkState { link: None, partner: Some(&partner), client };
    assert_eq!(
        decide(&id(), state(Some(&gone)), ClientLinkCommand::Link),
        Err(Rejection::OrganizationDeleted)
    );
    assert_eq!(decide(&id(), state(None), ClientLinkCommand::Link), Err(Rejection::OrganizationUnknown));
    let itself = ClientLinkId { client_id: id().partner_id, ..id() };
    let refused = decide(&itself, state(Some(&partner)), ClientLinkCommand::Link);
    assert_eq!(refused, Err(Rejection::ClientIsPartner));
}

#[test]
fn linking_twice_changes_nothing_and_unlinking_needs_a_link() {
    let partner = organization("partner", OrganizationKind::Partner, false);
    let client = organization("client", OrganizationKind::Paid, false);
    let (linked, unlinked) = (link(Some(3)), link(None));
    let state = |link| ClientLinkState { link: Some(link), partner: Some(&partner), client: Some(&client) };
    assert_eq!(decide(&id(), state(&linked), ClientLinkCommand::Link), Ok(Vec::new()));
    assert_eq!(decide(&id(), state(&linked), ClientLinkCommand::Unlink).unwrap().len(), 1);
    assert_eq!(decide(&id(), state(&unlinked), ClientLinkCommand::Link).unwrap().len(), 1);
    let refused = decide(&id(), state(&unlinked), ClientLinkCommand::Unlink);
    assert_eq!(refused, Err(Rejection::ClientNotLinked));
}

#[test]
fn a_link_carries_only_keys_made_during_it() {
    assert!(link(Some(3)).carries(Position::new(4)));
    assert!(!link(Some(3)).carries(Position::new(2)));
    assert!(!link(None).carries(Position::new(4)));
}
