//! Request bodies. They are parsed leniently and then checked field by field, so that one answer names every
//! invalid field.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use keyledger_engine::domain::rejection::Rejection;
use keyledger_engine::value::time::Timestamp;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::answer::code::Code;
use crate::answer::problem::{FieldError, Problem};
use crate::request::json_text::read_object;

/// The largest body, in bytes, unless an endpoint sets another limit.
pub(crate) const BODY_LEN_MAX: usize = 64 * 1024;
/// The time within which a body must arrive. It is shorter than the time limit of the whole request, so that
/// a slow client is not reported as a slow service.
const BODY_TIME_MAX: Duration = Duration::from_secs(20);

/// A member of a body: absent, or any JSON value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Field(Option<Value>);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

impl Field {
    /// Returns whether the member is present, even if it is `null`.
    #[must_use]
    pub(crate) const fn is_present(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether the member is absent or `null`.
    #[must_use]
    pub(crate) const fn is_missing(&self) -> bool {
        matches!(self.0, None | Some(Value::Null))
    }
}

/// A body that stores its members one by one. This is faster than serde's derived code, which buffers every
/// member first when a struct also collects the unknown ones.
pub(crate) trait Members: Default {
    /// Returns the field of a member that the endpoint knows.
    fn known(&mut self, name: &str) -> Option<&mut Field>;

    /// Returns the map for all other members.
    fn unknown(&mut self) -> &mut Map<String, Value>;

    /// Reads a body. Of members with the same name, the last one counts.
    ///
    /// # Errors
    /// Fails if the body is not an object.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

struct MembersVisitor<B>(PhantomData<B>);

impl<'de, B: Members> Visitor<'de> for MembersVisitor<B> {
    type Value = B;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<B, A::Error> {
        let mut body = B::default();
        while let Some(MemberName(name)) = members.next_key()? {
            match body.known(&name) {
                Some(field) => *field = members.next_value()?,
                None => {
                    let value = members.next_value()?;
                    body.unknown().insert(name.into_owned(), value);
                }
            }
        }
        Ok(body)
    }
}

/// Borrows the name unless it has escapes.
#[derive(Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

/// Collects the invalid fields of a body.
#[derive(Debug, Default)]
pub(crate) struct Checks(Vec<FieldError>);

impl Checks {
    /// Records that a field is invalid.
    pub(crate) fn fail(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.0.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    }

    /// Reads a required member.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        field: &Field,
        read: impl FnOnce(&Value) -> Reading<T>,
    ) -> Option<T> {
        match &field.0 {
            None | Some(Value::Null) => {
                self.fail(format!("/{name}"), "is required");
                None
            }
            Some(value) => self.read(name, value, read),
        }
    }

    /// Reads an optional member. Absent and `null` mean the same.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        field: &Field,
        read: impl FnOnce(&Value) -> Reading<T>,
    ) -> Option<T> {
        match &field.0 {
            None | Some(Value::Null) => None,
            Some(value) => self.read(name, value, read),
        }
    }

    /// Reads a member of a change: absent keeps the value, `null` clears it.
    pub(crate) fn change<T>(
        &mut self,
        name: &str,
        field: &Field,
        read: impl FnOnce(&Value) -> Reading<T>,
    ) -> Option<Option<T>> {
        match &field.0 {
            None => None,
            Some(Value::Null) => Some(None),
            Some(value) => self.read(name, value, read).map(Some),
        }
    }

    fn read<T>(&mut self, name: &str, value: &Value, read: impl FnOnce(&Value) -> Reading<T>) -> Option<T> {
        match read(value) {
            Ok(read) => Some(read),
            Err(failures) => {
                for (below, detail) in failures {
                    self.fail(format!("/{name}{below}"), detail);
                }
                None
            }
        }
    }

    /// Reports an expiry in the past together with the other invalid fields. If nothing else is invalid, the
    /// domain's rules decide: the repetition of an executed request must get the same answer even after the
    /// expiry has passed.
    pub(crate) fn not_past(&mut self, name: &str, end: Option<Timestamp>, now: Timestamp) {
        if !self.0.is_empty() && end.is_some_and(|end| end <= now) {
            self.fail(format!("/{name}"), Rejection::ExpiryNotInFuture.to_string());
        }
    }

    /// Records every unknown member as invalid.
    pub(crate) fn unknown(&mut self, members: &Map<String, Value>) {
        for name in members.keys() {
            let name = name.replace('~', "~0").replace('/', "~1");
            self.fail(format!("/{name}"), "is not a field of this endpoint");
        }
    }

    /// Ends the checks.
    ///
    /// # Errors
    /// `invalid_request` with every invalid field.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::fields(self.0)) }
    }
}

/// A value, or what is wrong with it: pairs of a JSON Pointer relative to the field and a detail.
pub(crate) type Reading<T> = Result<T, Vec<(String, String)>>;

fn wrong<T>(detail: impl Display) -> Reading<T> {
    Err(vec![(String::new(), detail.to_string())])
}

/// Reads a string with `parse`.
pub(crate) fn text<T, E: Display>(
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> impl FnOnce(&Value) -> Reading<T> {
    move |value| match value {
        Value::String(text) => parse(text).or_else(wrong),
        _ => wrong("must be a string"),
    }
}

/// Reads a string and parses it.
///
/// # Errors
/// Fails if the value is not a string, or if it cannot be parsed.
pub(crate) fn parsed<T: FromStr<Err: Display>>(value: &Value) -> Reading<T> {
    text(str::parse)(value)
}

/// Reads an array of at most `count_max` strings with `parse`, and drops repetitions.
pub(crate) fn set<T: PartialEq, E: Display>(
    count_max: usize,
    parse: impl Fn(&str) -> Result<T, E>,
) -> impl FnOnce(&Value) -> Reading<Vec<T>> {
    move |value| {
        let Value::Array(items) = value else { return wrong("must be an array of strings") };
        if items.len() > count_max {
            return wrong(format!("must have at most {count_max} items"));
        }
        let (mut read, mut failures) = (Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            match item.as_str().map(&parse) {
                Some(Ok(item)) if read.contains(&item) => {}
                Some(Ok(item)) => read.push(item),
                Some(Err(error)) => failures.push((format!("/{index}"), error.to_string())),
                None => failures.push((format!("/{index}"), "must be a string".into())),
            }
        }
        if failures.is_empty() { Ok(read) } else { Err(failures) }
    }
}

/// Reads `true` or `false`.
///
/// # Errors
/// Fails for any other value.
pub(crate) fn boolean(value: &Value) -> Reading<bool> {
    value.as_bool().map_or_else(|| wrong("must be true or false"), Ok)
}

/// Reads a whole number from 0 to `max`.
pub(crate) fn number(max: u64) -> impl FnOnce(&Value) -> Reading<u64> {
    move |value| match value.as_u64() {
        Some(number) if number <= max => Ok(number),
        _ => wrong(format!("must be a whole number from 0 to {max}")),
    }
}

/// A JSON body with its bytes. An empty body counts as an object without members.
pub(crate) struct Json<T, const LEN_MAX: usize = BODY_LEN_MAX> {
    pub body: T,
    /// The bytes, to which an idempotency key is bound.
    pub bytes: Bytes,
}

impl<T: DeserializeOwned, S: Send + Sync, const LEN_MAX: usize> FromRequest<S> for Json<T, LEN_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read_body_up_to(body, LEN_MAX).await?;
        if !bytes.is_empty() {
            check_media_type(&parts.headers)?;
        }
        Ok(Self { body: read_object(&bytes)?, bytes })
    }
}

/// The members of an object: the fields of `T`, and all others.
#[derive(Deserialize, Default)]
pub(crate) struct Strict<T> {
    /// The known members.
    #[serde(flatten)]
    pub fields: T,
    /// The unknown members, for [`Checks::unknown`].
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// A JSON body with the fields of `T`, its unknown members and its bytes. An empty body counts as an object
/// without members.
pub(crate) struct JsonBody<T, const LEN_MAX: usize = BODY_LEN_MAX> {
    fields: T,
    /// The unknown members, for [`Checks::unknown`].
    pub unknown: Map<String, Value>,
    /// The bytes, to which an idempotency key is bound.
    pub bytes: Bytes,
}

impl<T, const LEN_MAX: usize> Deref for JsonBody<T, LEN_MAX> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.fields
    }
}

impl<T: DeserializeOwned, S: Send + Sync, const LEN_MAX: usize> FromRequest<S> for JsonBody<T, LEN_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Json { body: Strict { fields, unknown }, bytes } =
            Json::<Strict<T>, LEN_MAX>::from_request(request, state).await?;
        Ok(Self { fields, unknown, bytes })
    }
}

/// A body without fields.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = NoFields)]
pub(crate) struct NoFields {
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

impl NoFields {
    /// Rejects a body with fields.
    ///
    /// # Errors
    /// `invalid_request`.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let mut checks = Checks::default();
        checks.unknown(&self.unknown);
        checks.finish()
    }
}

/// Rejects a body that is not declared as JSON.
///
/// # Errors
/// `unsupported_media_type`.
pub(crate) fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_TYPE) {
        Some(media_type) if is_json(media_type.as_bytes()) => Ok(()),
        _ => Err(Problem::of(Code::UnsupportedMediaType)),
    }
}

/// Returns whether a media type is JSON, whatever its parameters (RFC 9110 §8.3.1).
#[must_use]
pub(crate) fn is_json(media_type: &[u8]) -> bool {
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// The bytes of a body that the endpoint parses itself.
pub(crate) struct BodyBytes(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for BodyBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read_body(request.into_body()).await.map(Self)
    }
}

/// Reads a body of at most [`BODY_LEN_MAX`] bytes.
///
/// # Errors
/// See [`read_body_up_to`].
pub(crate) async fn read_body(body: axum::body::Body) -> Result<Bytes, Problem> {
    read_body_up_to(body, BODY_LEN_MAX).await
}

/// Reads a body of at most `len_max` bytes.
///
/// # Errors
/// `body_too_large`, `request_timeout`, or `malformed_request` if the body ends early.
pub(crate) async fn read_body_up_to(body: axum::body::Body, len_max: usize) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(Code::BodyTooLarge, format!("the body may have at most {} KiB", len_max / 1024));
    // Checked before the first read, so that a client that waits for `100 Continue` never sends the body.
    if body.size_hint().lower() > len_max as u64 {
        return Err(too_large());
    }
    let reading = tokio::time::timeout(BODY_TIME_MAX, axum::body::to_bytes(body, len_max));
    let read = reading.await.map_err(|_| Problem::of(Code::RequestTimeout))?;
    read.map_err(|error| {
        let is_too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if is_too_large { too_large() } else { Problem::new(Code::MalformedRequest, "the body ended early") }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::json_text::read_plain_object;

    #[derive(Default)]
    struct Body {
        name: Field,
        unknown: Map<String, Value>,
    }

    impl Members for Body {
        fn known(&mut self, name: &str) -> Option<&mut Field> {
            (name == "name").then_some(&mut self.name)
        }

        fn unknown(&mut self) -> &mut Map<String, Value> {
            &mut self.unknown
        }
    }

    impl<'de> Deserialize<'de> for Body {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Self::read(deserializer)
        }
    }

    #[test]
    fn unknown_members_are_kept_apart() {
        #[derive(Deserialize, Default)]
        struct Fields {
            #[serde(default)]
            name: Field,
            #[serde(default)]
            note: Field,
        }
        let read: Strict<Fields> = read_object(br#"{"b":[1],"name":null,"a":{"name":2}}"#).unwrap();
        assert!(read.fields.name.is_present() && read.fields.name.is_missing());
        assert!(!read.fields.note.is_present());
        assert_eq!(Value::Object(read.unknown), json!({ "a": { "name": 2 }, "b": [1] }));
    }

    #[test]
    fn a_body_is_read_the_same_in_one_pass() {
        let text = br#"{"b":1,"name":"x","n\u0061me":["y"],"a\"":null,"b":2}"#;
        for body in [read_plain_object::<Body>(text).unwrap(), read_object(text).unwrap()] {
            assert_eq!(body.name.0, Some(json!(["y"])));
            assert_eq!(Value::Object(body.unknown).to_string(), r#"{"b":2,"a\"":null}"#);
        }
        let empty: Body = read_object(b"").unwrap();
        assert!(!empty.name.is_present() && empty.unknown.is_empty());
        assert!(read_object::<Body>(b"[]").is_err() && read_plain_object::<Body>(b"[]").is_none());
    }
}
