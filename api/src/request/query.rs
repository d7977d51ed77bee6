//! What a request's address says: the id in its path, and query parameters, checked one by one, so that an answer names
//! every one that fails at once.

use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use crate::answer::problem::{Code, FieldError, Problem};
use crate::request::paging::{LIMIT_DEFAULT, limit_of};

/// The id in a request's path. Whether it has the form of an id is for the call to judge: what is no id names nothing.
#[derive(Debug)]
pub(crate) struct PathId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        id.map(|Path(id)| Self(id)).map_err(|_| Problem::of(Code::NotFound))
    }
}

/// The parameters of a request, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct QueryParameters {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequestParts<S> for QueryParameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or("");
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Ok(Self { pairs, errors: Vec::new() })
    }
}

impl QueryParameters {
    /// Notes that a parameter fails.
    pub(crate) fn fail(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: format!("?{name}"), detail: detail.into() });
    }

    /// Takes a parameter's text. An empty one is refused: taken for one that was left out, it would have more answered
    /// than was asked for.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let text = self.once(name);
        if text.as_ref().is_some_and(String::is_empty) {
            self.fail(name, "must not be empty; leave it out instead");
            return None;
        }
        text
    }

    /// Takes the text of a parameter that narrows nothing when it is empty, which then counts as left out.
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

    /// Takes a parameter, and says whether it was given with this text. What else it says is left out of account.
    pub(crate) fn says(&mut self, name: &str, text: &str) -> bool {
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

    /// Takes a parameter of a type that knows how to parse it.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        self.read(name, str::parse)
    }

    /// Takes the size of a page.
    pub(crate) fn limit(&mut self) -> usize {
        self.limit_if_given().unwrap_or(LIMIT_DEFAULT)
    }

    /// Takes the size of a page, if it is said.
    pub(crate) fn limit_if_given(&mut self) -> Option<usize> {
        let text = self.text("limit")?;
        match limit_of(&text) {
            Ok(limit) => Some(limit),
            Err(problem) => {
                self.errors.extend(problem.errors);
                None
            }
        }
    }

    /// Leaves out of account what nobody took: it was meant for somebody else.
    pub(crate) fn forget_others(&mut self) {
        self.pairs.clear();
    }

    /// Ends the checks; what nobody took is refused.
    ///
    /// # Errors
    /// `invalid_request` with all that failed.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let names: Vec<String> = self.pairs.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            self.fail(&name, "is not a parameter of this call");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::fields(self.errors)) }
    }
}
