//! The upcasters: they convert events of older schemas to the current one when they are read. Stored bytes
//! never change.

use std::ops::Range;

use rmpv::Value;

use super::Error;
use crate::domain::event::EventType;

/// Converts one part of an event from a schema number to the next.
type Step = fn(Value) -> Result<Value, String>;

/// Converts events of one type from a schema number to the next.
struct Upcaster {
    event_type: EventType,
    /// The schema number that it converts from.
    from: u16,
    facts: Step,
    personal: Step,
}

/// Every schema number that was ever written has a row here, except the current one, and a golden file in
/// `engine/tests/golden`.
const UPCASTERS: &[Upcaster] = &[
    // Schema 2 adds the time at which it ends at the latest, at the end of the facts.
    Upcaster { event_type: EventType::PortalSessionCreated, from: 1, facts: append_nil, personal: Ok },
];

fn append_nil(facts: Value) -> Result<Value, String> {
    let Value::Array(mut fields) = facts else { return Err("the facts are not an array".into()) };
    fields.push(Value::Nil);
    Ok(Value::Array(fields))
}

/// Converts the facts of an event of `schema` to the current schema, as MessagePack.
pub(crate) fn facts_to_current(event_type: EventType, schema: u16, facts: Value) -> Result<Vec<u8>, Error> {
    to_schema(UPCASTERS, |row| row.facts, event_type, schema..event_type.schema(), facts).map(to_bytes)
}

/// Converts the personal part of an event of `schema` to the current schema, as MessagePack.
pub(crate) fn personal_to_current(
    event_type: EventType,
    schema: u16,
    personal: Value,
) -> Result<Vec<u8>, Error> {
    to_schema(UPCASTERS, |row| row.personal, event_type, schema..event_type.schema(), personal).map(to_bytes)
}

fn to_bytes(value: Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory cannot fail; missing bytes would be refused when they are decoded.
    let _ = rmpv::encode::write_value(&mut bytes, &value);
    bytes
}

fn to_schema(
    upcasters: &[Upcaster],
    part: fn(&Upcaster) -> Step,
    event_type: EventType,
    schemas: Range<u16>,
    mut value: Value,
) -> Result<Value, Error> {
    if schemas.is_empty() {
        return Err(Error::UnknownSchema { event_type, schema: schemas.start });
    }
    for schema in schemas {
        let upcaster = upcasters
            .iter()
            .find(|row| row.event_type == event_type && row.from == schema)
            .ok_or(Error::UnknownSchema { event_type, schema })?;
        value = part(upcaster)(value).map_err(Error::Malformed)?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chain_of_upcasters_reaches_the_current_schema() {
        for event_type in EventType::ALL {
            for schema in 1..event_type.schema() {
                let complete =
                    UPCASTERS.iter().any(|row| row.event_type == *event_type && row.from == schema);
                assert!(complete, "{event_type} has no upcaster from schema {schema}");
            }
        }
    }

    #[test]
    fn upcasters_run_one_after_the_other() {
        fn add_two(facts: Value) -> Result<Value, String> {
            add(facts, 2)
        }
        fn add_three(facts: Value) -> Result<Value, String> {
            add(facts, 3)
        }
        fn add(facts: Value, number: i64) -> Result<Value, String> {
            let Value::Array(mut fields) = facts else { return Err("no array".into()) };
            fields.push(number.into());
            Ok(Value::Array(fields))
        }
        let event_type = EventType::KeyScopesChanged;
        let rows = [
            Upcaster { event_type, from: 2, facts: add_three, personal: Ok },
            Upcaster { event_type, from: 1, facts: add_two, personal: Ok },
        ];
        let facts = Value::Array(vec![1.into()]);
        let upcast =
            |event_type, schemas, value| to_schema(&rows, |row| row.facts, event_type, schemas, value);
        let expected = Value::Array(vec![1.into(), 2.into(), 3.into()]);
        assert_eq!(upcast(event_type, 1..3, facts.clone()).unwrap(), expected);
        assert_eq!(to_schema(&rows, |row| row.personal, event_type, 1..3, Value::Nil).unwrap(), Value::Nil);
        assert!(matches!(
            upcast(event_type, 7..8, facts.clone()),
            Err(Error::UnknownSchema { schema: 7, .. })
        ));
        assert!(upcast(event_type, 1..3, Value::Nil).is_err());
        assert!(upcast(EventType::KeyCreated, 1..2, facts).is_err());
    }
}
