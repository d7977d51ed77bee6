//! What is wrong with the fields of a form, as the call that it led to said.

use crate::answer::code::Code;
use crate::answer::problem::{FieldError, Problem};

/// The fields that fail, each with what is wrong.
#[derive(Debug, Default)]
pub(crate) struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Takes the fields that a problem names.
    ///
    /// # Errors
    /// The problem itself, when it is not about fields: then the form cannot be corrected.
    pub(crate) fn of(problem: Problem) -> Result<Self, Problem> {
        match problem.code {
            Code::InvalidRequest | Code::PolicyViolation if !problem.errors.is_empty() => {
                Ok(Self(problem.errors))
            }
            _ => Err(problem),
        }
    }

    /// One field that fails.
    pub(crate) fn one(field: &str, detail: impl Into<String>) -> Self {
        Self(vec![FieldError { pointer: format!("/{field}"), detail: detail.into() }])
    }

    /// Whether any fails.
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// What is wrong with a field, or with something in it.
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        let error = self.0.iter().find(|error| field_of(&error.pointer) == field);
        error.map(|error| error.detail.as_str())
    }

    /// What is wrong with fields that a form does not show by themselves.
    pub(crate) fn others(&self, shown: &[&str]) -> Vec<String> {
        let others = self.0.iter().filter(|error| !shown.contains(&field_of(&error.pointer)));
        others
            .map(|error| format!("{} {}", field_of(&error.pointer), error.detail).trim().to_owned())
            .collect()
    }
}

/// The name of the field that a JSON Pointer begins with.
fn field_of(pointer: &str) -> &str {
    pointer.trim_start_matches(['/', '?']).split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_field() {
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
