//! The field errors of a form, as the API reports them.

use crate::answer::code::Code;
use crate::answer::problem::{FieldError, Problem};

#[derive(Debug, Default)]
pub(crate) struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Takes the field errors out of a problem.
    ///
    /// # Errors
    /// The problem itself if it is not about fields, because correcting the form would not help.
    pub(crate) fn of(problem: Problem) -> Result<Self, Problem> {
        match problem.code {
            Code::InvalidRequest | Code::PolicyViolation if !problem.errors.is_empty() => {
                Ok(Self(problem.errors))
            }
            _ => Err(problem),
        }
    }

    /// An error in one field.
    pub(crate) fn one(field: &str, detail: impl Into<String>) -> Self {
        Self(vec![FieldError { pointer: format!("/{field}"), detail: detail.into() }])
    }

    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Returns the error of a field or of something inside it.
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        let error = self.0.iter().find(|error| field_of(&error.pointer) == field);
        error.map(|error| error.detail.as_str())
    }

    /// Returns the errors of fields that the form does not show.
    pub(crate) fn others(&self, shown: &[&str]) -> Vec<String> {
        let others = self.0.iter().filter(|error| !shown.contains(&field_of(&error.pointer)));
        others
            .map(|error| format!("{} {}", field_of(&error.pointer), error.detail).trim().to_owned())
            .collect()
    }
}

/// Returns the first segment of a JSON Pointer, which names the field.
fn field_of(pointer: &str) -> &str {
    pointer.trim_start_matches(['/', '?']).split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_grouped_by_field() {
        let errors =
            ["/name", "/scopes/2"].map(|pointer| FieldError { pointer: pointer.into(), detail: "no".into() });
        let errors = FieldErrors::of(Problem::fields(errors.to_vec())).unwrap();
        assert_eq!(
            (errors.get("scopes"), errors.get("name"), errors.get("x")),
            (Some("no"), Some("no"), None)
        );
        assert_eq!(errors.others(&["name"]), ["scopes no"]);
        assert!(FieldErrors::of(Problem::of(Code::KeyRevoked)).is_err());
    }
}
