//! What a request's address says: the id in its path, and query parameters, checked one by one, so that an answer names
//! every one that fails at once.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;

use crate::paging::limit_of;
use crate::problem::{Code, FieldError, Problem};

/// The id in a request's path. Whether it has the form of an id is for the call to judge: what is no id names nothing.
#[derive(Debug)]
pub struct PathId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        id.map(|Path(id)| Self(id)).map_err(|_| Problem::of(Code::NotFound))
    }
}

/// The parameters of a request, and what is wrong with them.
#[derive(Debug, Default)]
pub struct QueryParameters {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequestParts<S> for QueryParameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| Problem::field("?", error.body_text()))?;
        Ok(Self { pairs, errors: Vec::new() })
    }
}

impl QueryParameters {
    /// Notes that a parameter fails.
    pub fn fail(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: format!("?{name}"), detail: detail.into() });
    }

    /// Takes a parameter's text. An empty one counts as left out.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let mut values = self.texts(name);
        if values.len() > 1 {
            self.fail(name, "must be given once");
        }
        values.pop().filter(|value| !value.is_empty())
    }

    /// Takes a parameter that may be given more than once.
    pub fn texts(&mut self, name: &str) -> Vec<String> {
        self.pairs.extract_if(.., |(given, _)| given == name).map(|(_, value)| value).collect()
    }

    /// Takes a parameter and reads it with `parse`.
    pub fn read<T, E: Display>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match parse(&self.text(name)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(name, error.to_string());
                None
            }
        }
    }

    /// Takes a parameter of a type that knows how to parse it.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        self.read(name, str::parse)
    }

    /// Takes the size of a page.
    pub fn limit(&mut self) -> usize {
        let texts = self.texts("limit");
        self.limit_in(&texts)
    }

    /// Reads the size of a page out of the texts of its parameter.
    pub fn limit_in(&mut self, texts: &[String]) -> usize {
        match limit_of(texts.last().map(String::as_str)) {
            Ok(limit) => limit,
            Err(problem) => {
                self.errors.extend(problem.errors);
                1
            }
        }
    }

    /// Ends the checks; what nobody took is refused.
    ///
    /// # Errors
    /// `invalid_request` with all that failed.
    pub fn finish(mut self) -> Result<(), Problem> {
        let names: Vec<String> = self.pairs.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            self.fail(&name, "is not a parameter of this call");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::fields(self.errors)) }
    }
}
