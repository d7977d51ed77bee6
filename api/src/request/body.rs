//! Request bodies: read leniently, checked field by field, so that an answer names every field that fails at once.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
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

use crate::answer::problem::{Code, FieldError, Problem};
use crate::request::json_text::read_object;

/// No body is larger, but that of a call that says otherwise: 64 KiB.
pub(crate) const BODY_LEN_MAX: usize = 64 * 1024;
/// A body must have come within this time. It is shorter than the time that the whole answer may take, so that a client
/// that is slow is not told that the service is.
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
    /// Whether the member is there, be it `null`.
    #[must_use]
    pub(crate) const fn is_present(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the member is absent or `null`.
    #[must_use]
    pub(crate) const fn is_missing(&self) -> bool {
        matches!(self.0, None | Some(Value::Null))
    }
}

/// A body that takes its members one by one, which is quick: what serde derives puts all of them aside first where there is
/// a place for those that it does not know.
pub(crate) trait Members: Default {
    /// The place of a member that the call knows.
    fn known(&mut self, name: &str) -> Option<&mut Field>;

    /// The place of all others.
    fn unknown(&mut self) -> &mut Map<String, Value>;

    /// Reads a body. Of members with the same name the last one counts.
    ///
    /// # Errors
    /// When it is no object.
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

/// Borrowed where it holds no escapes.
#[derive(Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

/// Collects what is wrong with a body.
#[derive(Debug, Default)]
pub(crate) struct Checks(Vec<FieldError>);

impl Checks {
    /// Notes that a field fails.
    pub(crate) fn fail(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.0.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    }

    /// Takes a member that must be there.
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

    /// Takes a member that may be absent or `null`, which mean the same.
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

    /// Takes a member of a change: absent leaves, `null` clears.
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

    /// Names an end that is past together with whatever else fails. Alone it is left to the rules: the repetition of a call
    /// that took place is answered as the call was.
    pub(crate) fn not_past(&mut self, name: &str, end: Option<Timestamp>, now: Timestamp) {
        if !self.0.is_empty() && end.is_some_and(|end| end <= now) {
            self.fail(format!("/{name}"), Rejection::ExpiryNotInFuture.to_string());
        }
    }

    /// Refuses members that no call knows.
    pub(crate) fn unknown(&mut self, members: &Map<String, Value>) {
        for name in members.keys() {
            let name = name.replace('~', "~0").replace('/', "~1");
            self.fail(format!("/{name}"), "is not a field of this call");
        }
    }

    /// Ends the checks.
    ///
    /// # Errors
    /// `invalid_request` with all that failed.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::fields(self.0)) }
    }
}

/// A value read, or what is wrong, each with the rest of a JSON Pointer to it.
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

/// Reads a string that a type knows how to parse.
///
/// # Errors
/// When it is no string, or the type refuses it.
pub(crate) fn parsed<T: FromStr<Err: Display>>(value: &Value) -> Reading<T> {
    text(str::parse)(value)
}

/// Reads an array of at most `count_max` strings with `parse`, leaving out repetitions.
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
/// When it is neither.
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

/// A JSON body with the bytes it came as. A body may be left out where every field may.
pub(crate) struct Json<T, const LEN_MAX: usize = BODY_LEN_MAX> {
    /// The body read.
    pub body: T,
    /// The bytes, which an idempotency key is bound to.
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

/// A body without fields.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = NoFields)]
pub(crate) struct NoFields {
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: Map<String, Value>,
}

impl NoFields {
    /// Refuses a body with fields.
    ///
    /// # Errors
    /// `invalid_request`.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let mut checks = Checks::default();
        checks.unknown(&self.unknown);
        checks.finish()
    }
}

/// Refuses a body that does not say that it is JSON.
///
/// # Errors
/// `unsupported_media_type`.
pub(crate) fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_TYPE) {
        Some(media_type) if is_json(media_type.as_bytes()) => Ok(()),
        _ => Err(Problem::of(Code::UnsupportedMediaType)),
    }
}

/// Whether a media type says JSON, whatever its parameters (RFC 9110 §8.3.1).
#[must_use]
pub(crate) fn is_json(media_type: &[u8]) -> bool {
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// The bytes of a body whose call reads them itself.
pub(crate) struct BodyBytes(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for BodyBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read_body(request.into_body()).await.map(Self)
    }
}

/// Reads a body of at most [`BODY_LEN_MAX`].
///
/// # Errors
/// As [`read_body_up_to`].
pub(crate) async fn read_body(body: axum::body::Body) -> Result<Bytes, Problem> {
    read_body_up_to(body, BODY_LEN_MAX).await
}

/// Reads a body of at most `len_max` bytes.
///
/// # Errors
/// `body_too_large`, `request_timeout`, or `malformed_request` when it breaks off.
pub(crate) async fn read_body_up_to(body: axum::body::Body, len_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Code::BodyTooLarge,
            format!("the body of this call may have at most {} KiB", len_max / 1024),
        )
    };
    // Known without asking for it: who waits for `100 Continue` is told not to send it.
    if body.size_hint().lower() > len_max as u64 {
        return Err(too_large());
    }
    let reading = tokio::time::timeout(BODY_TIME_MAX, axum::body::to_bytes(body, len_max));
    let read = reading.await.map_err(|_| Problem::of(Code::RequestTimeout))?;
    read.map_err(|error| {
        let is_too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if is_too_large { too_large() } else { Problem::new(Code::MalformedRequest, "the body broke off") }
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
    fn a_body_is_read_the_same_in_one_go() {
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
