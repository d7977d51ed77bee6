//! How much a record weighs: about its size in the log, in bytes. It is counted from the record, so that
//! a record weighs the same when it is written and when it is read again.

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::record::Record;
use keyledger_engine::value::text::{Metadata, Scope};

/// What every record takes: ids, hashes, times, the seal of its text.
const RECORD_LEN: usize = 256;

/// Returns the weight of a record, in bytes.
pub(super) fn of(record: &Record) -> u64 {
    let origin = record.actor.user_agent.as_deref().map_or(0, str::len)
        + record.request_id.as_deref().map_or(0, str::len);
    (RECORD_LEN + origin + text_of(&record.event)) as u64
}

/// The bytes of the texts that callers choose, as far as they may be long.
fn text_of(event: &Event) -> usize {
    fn len<T>(text: Option<&T>, as_str: impl Fn(&T) -> &str) -> usize {
        text.map_or(0, |text| as_str(text).len())
    }
    let scopes = |scopes: &[Scope]| scopes.iter().map(|scope| scope.as_str().len() + 1).sum::<usize>();
    match event {
        Event::KeyCreated(facts, personal) => {
            len(personal.name.as_ref(), |it| it.as_str())
                + len(personal.description.as_ref(), |it| it.as_str())
                + len(personal.metadata.as_ref(), Metadata::as_json)
                + len(personal.user_id.as_ref(), |it| it.as_str())
                + scopes(&facts.scopes)
        }
        Event::KeyRenamed((), personal) => len(personal.name.as_ref(), |it| it.as_str()),
        Event::KeyDescriptionChanged((), personal) => len(personal.description.as_ref(), |it| it.as_str()),
        Event::KeyMetadataChanged((), personal) => len(personal.metadata.as_ref(), Metadata::as_json),
        Event::KeyScopesChanged(facts, ()) => scopes(&facts.scopes),
        Event::KeyRevoked(_, personal) => len(personal.note.as_ref(), |it| it.as_str()),
        Event::OrganizationCreated(_, personal) | Event::OrganizationRenamed((), personal) => {
            len(personal.name.as_ref(), |it| it.as_str())
        }
        Event::PolicySet(facts, ()) => facts.policy.allowed_scopes.as_deref().map_or(0, scopes),
        Event::RootKeyCreated(_, personal) => len(personal.name.as_ref(), |it| it.as_str()),
        Event::ApplicationCreated(_, personal) | Event::ApplicationRenamed((), personal) => {
            len(personal.name.as_ref(), |it| it.as_str())
        }
        Event::WebhookRegistered(facts, ()) => facts.url.as_str().len(),
        Event::WebhookUrlChanged(facts, ()) => facts.url.as_str().len(),
        _ => 0,
    }
}
