//! A form that was sent. A handler that changes something takes a [`Submission`], so that none forgets to make sure that a
//! page of this service sent it, in the same session.

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};

use crate::auth::session_cookie::{check_csrf_token, check_same_origin};

use super::visitor::Visitor;
use crate::console::parts::form::Form;

/// A form that a page of this service sent, in the session of whoever is signed in.
pub(crate) struct Submission {
    /// Who sent it.
    pub visitor: Visitor,
    /// What it says.
    pub form: Form,
}

impl<S: Send + Sync> FromRequest<S> for Submission {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visitor =
            <Visitor as axum::extract::FromRequestParts<S>>::from_request_parts(&mut parts, state).await?;
        check_same_origin(&parts.headers).map_err(IntoResponse::into_response)?;
        let form = Form::read(body).await.map_err(IntoResponse::into_response)?;
        let shown = form.text("csrf_token").as_bytes();
        check_csrf_token(shown, visitor.secret()).map_err(IntoResponse::into_response)?;
        Ok(Self { visitor, form })
    }
}
