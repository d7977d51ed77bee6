//! Forms: the bodies of OAuth 2.0 requests.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::header;
use zeroize::Zeroizing;

use super::error::OAuthError;
use crate::request::body::read_body;

/// The parameters of a form. It has no `Debug`, because it may contain secrets.
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// Returns a parameter's value. A parameter without a value counts as absent (RFC 6749 §3.2).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(given, _)| given == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    fn read(bytes: &Bytes) -> Result<Self, OAuthError> {
        let pairs: Vec<(String, Zeroizing<String>)> = form_urlencoded::parse(bytes)
            .map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned())))
            .collect();
        let repeated = |(index, (name, _)): (usize, &(String, Zeroizing<String>))| {
            pairs.iter().take(index).any(|(before, _)| before == name)
        };
        if pairs.iter().enumerate().any(repeated) {
            return Err(OAuthError::InvalidRequest("a parameter appears more than once"));
        }
        Ok(Self(pairs))
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = OAuthError;

    async fn from_request(request: Request, _: &S) -> Result<Self, OAuthError> {
        let (parts, body) = request.into_parts();
        let media_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.unwrap_or("").split(';').next().unwrap_or("").trim();
        let bytes = read_body(body).await?;
        if !bytes.is_empty() && !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(OAuthError::InvalidRequest(
                "send the body as Content-Type: application/x-www-form-urlencoded",
            ));
        }
        Self::read(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_repetitions_refused() {
        let form = Form::read(&Bytes::from_static(b"scope=keys%3Aread+keys:verify&audience=")).ok().unwrap();
        assert_eq!(form.get("scope"), Some("keys:read keys:verify"));
        assert_eq!(form.get("audience"), None);
        assert_eq!(form.get("grant_type"), None);
        assert!(Form::read(&Bytes::from_static(b"a=1&b=2&a=1")).is_err());
    }
}
