//! The path and the query of a request. Query parameters are checked one by one, so that one answer names
//! every invalid one.
//!
//! An endpoint describes its query by a struct that derives `IntoParams` for the OpenAPI document and
//! implements [`FromQuery`]. The handler takes it as [`Query`].

use std::convert::Infallible;
use std::fmt::{self, Display};
use std::ops::Deref;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use crate::answer::code::Code;
use crate::answer::problem::{FieldError, Problem};

/// The default number of items on a page.
pub(crate) const LIMIT_DEFAULT: usize = 50;
/// The most items on a page.
const LIMIT_MAX: usize = 200;

/// The id in a request's path. The endpoint decides whether it has the form of an id: a text of another form
/// names no object.
#[derive(Debug)]
pub(crate) struct PathId(pub String);

impl Deref for PathId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        id.map(|Path(id)| Self(id)).map_err(|_| Problem::of(Code::NotFound))
    }
}

/// The query of an endpoint.
pub(crate) trait FromQuery: Sized {
    /// Takes the parameters of the query, and records the invalid ones.
    fn from_query(parameters: &mut QueryParameters) -> Self;
}

/// A valid query without unknown parameters.
pub(crate) struct Query<T>(pub T);

impl<S: Send + Sync, T: FromQuery> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(parameters) = QueryParameters::from_request_parts(parts, state).await;
        parameters.read_all().map(Self)
    }
}

/// The parameters of a request, and the invalid ones so far. A handler takes them instead of [`Query`] when
/// it must check something else first, or check parameters against each other.
#[derive(Debug, Default)]
pub(crate) struct QueryParameters {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequestParts<S> for QueryParameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts.uri.query().unwrap_or("")))
    }
}

impl QueryParameters {
    fn of(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { pairs, errors: Vec::new() }
    }

    /// Reads the whole query.
    ///
    /// # Errors
    /// `invalid_request` with every invalid or unknown parameter.
    pub(crate) fn read_all<T: FromQuery>(mut self) -> Result<T, Problem> {
        let query = T::from_query(&mut self);
        self.finish()?;
        Ok(query)
    }

    /// Records that a parameter is invalid.
    pub(crate) fn fail(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: format!("?{name}"), detail: detail.into() });
    }

    /// Takes a parameter's text. An empty one is invalid: taken as absent, it would widen the answer.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let text = self.once(name);
        if text.as_ref().is_some_and(String::is_empty) {
            self.fail(name, "must not be empty; omit it instead");
            return None;
        }
        text
    }

    /// Takes the text of a parameter that does not narrow the answer when it is empty. An empty one counts as
    /// absent.
    pub(crate) fn text_or_empty(&mut self, name: &str) -> Option<String> {
        self.once(name).filter(|text| !text.is_empty())
    }

    fn once(&mut self, name: &str) -> Option<String> {
        let given = self.pairs.extract_if(.., |(given, _)| given == name);
        let mut values: Vec<String> = given.map(|(_, value)| value).collect();
        if values.len() > 1 {
            self.fail(name, "must be given once");
        }
        values.pop()
    }

    /// Takes a parameter, and returns whether one of its values is this text. Other values are ignored.
    pub(crate) fn has(&mut self, name: &str, text: &str) -> bool {
        let given: Vec<_> = self.pairs.extract_if(.., |(given, _)| given == name).collect();
        given.iter().any(|(_, value)| value == text)
    }

    /// Takes a parameter and reads it with `parse`.
    pub(crate) fn read<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(&self.text(name)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(name, error.to_string());
                None
            }
        }
    }

    /// Takes a parameter and parses it.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        self.read(name, str::parse)
    }

    /// Takes a parameter with words of a closed set, separated by commas.
    pub(crate) fn words<T: FromStr<Err: Display>>(&mut self, name: &str) -> Vec<T> {
        let mut words = Vec::new();
        let text = self.text(name).unwrap_or_default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.parse::<T>() {
                Ok(word) => words.push(word),
                Err(error) => self.fail(name, error.to_string()),
            }
        }
        words
    }

    /// Takes a text of at most `chars_max` characters to search for. An empty one counts as absent.
    pub(crate) fn search(&mut self, name: &str, chars_max: usize) -> Option<String> {
        let text = self.text_or_empty(name);
        if text.as_ref().is_some_and(|text| text.chars().count() > chars_max) {
            self.fail(name, format!("must have at most {chars_max} characters"));
        }
        text
    }

    /// Takes the number of items on a page, or the default.
    pub(crate) fn limit(&mut self) -> usize {
        self.limit_if_given().unwrap_or(LIMIT_DEFAULT)
    }

    /// Takes the number of items on a page, if it is given.
    pub(crate) fn limit_if_given(&mut self) -> Option<usize> {
        self.read("limit", |text| match text.parse() {
            Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
            _ => Err("must be a whole number from 1 to 200"),
        })
    }

    /// Drops the parameters that were not taken, because they are meant for another service.
    pub(crate) fn forget_others(&mut self) {
        self.pairs.clear();
    }

    /// Ends the checks. Parameters that were not taken are invalid.
    ///
    /// # Errors
    /// `invalid_request` with every invalid parameter.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let names: Vec<String> = self.pairs.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            self.fail(&name, "is not a parameter of this endpoint");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::fields(self.errors)) }
    }
}

/// Checks that a query reads every parameter that it documents.
#[cfg(test)]
#[track_caller]
pub(crate) fn assert_documented_is_read<T: FromQuery + utoipa::IntoParams>() {
    let documented = T::into_params(|| Some(utoipa::openapi::path::ParameterIn::Query));
    let pairs: Vec<_> = documented.into_iter().map(|it| (it.name, "x".to_owned())).collect();
    assert!(!pairs.is_empty());
    let mut parameters = QueryParameters { pairs, errors: Vec::new() };
    let _ = T::from_query(&mut parameters);
    assert!(parameters.pairs.is_empty(), "documented but not read: {:?}", parameters.pairs);
}
