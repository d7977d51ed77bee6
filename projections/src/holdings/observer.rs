//! Keeps the counts exact: the ledger's writer passes every record before it answers the command.

use std::sync::Arc;

use keyledger_engine::domain::event::Event;
use keyledger_engine::domain::record::Record;
use keyledger_engine::domain::stream::StreamId;
use keyledger_engine::ledger::Observer;

use super::{Holdings, Kind, day_of, weight};

/// Counts every record that the ledger commits.
pub struct HoldingsObserver(pub Arc<Holdings>);

impl Observer for HoldingsObserver {
    fn committed(&mut self, records: &[Record]) {
        // Records of one organization often follow one another.
        for run in records.chunk_by(|one, other| one.organization_id == other.organization_id) {
            let Some(organization_id) = run.first().and_then(|record| record.organization_id.as_ref()) else {
                continue;
            };
            let holding = self.0.holding(organization_id);
            for record in run {
                holding.write(day_of(record.time), weight::of(record));
                match &record.event {
                    Event::KeyCreated(..) => holding.add(Kind::Key, 1),
                    Event::KeyDeleted(..) => holding.remove(Kind::Key),
                    Event::RootKeyCreated(..) => holding.add(Kind::RootKey, 1),
                    Event::RootKeyRevoked(..) => holding.remove(Kind::RootKey),
                    Event::ApplicationCreated(..) => holding.add(Kind::Application, 1),
                    Event::ApplicationDeleted(..) => holding.remove(Kind::Application),
                    Event::WebhookRegistered(..) => holding.add(Kind::Webhook, 1),
                    Event::WebhookDeleted(..) => holding.remove(Kind::Webhook),
                    Event::PortalSessionCreated(facts, _) => {
                        if let StreamId::PortalSession(id) = record.stream {
                            holding.add(Kind::PortalSession, 1);
                            self.0.sessions().begin(id, organization_id.clone(), facts.link_expires_at);
                        }
                    }
                    Event::PortalSessionStarted(facts, ()) => {
                        if let StreamId::PortalSession(id) = record.stream {
                            let was_there =
                                self.0.sessions().begin(id, organization_id.clone(), facts.expires_at);
                            holding.add(Kind::PortalSession, u64::from(!was_there));
                        }
                    }
                    Event::PortalSessionEnded(..) => {
                        if let StreamId::PortalSession(id) = record.stream
                            && self.0.sessions().end(id).is_some()
                        {
                            holding.remove(Kind::PortalSession);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
