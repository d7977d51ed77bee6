//! A submitted form. Handlers that change something take a [`Submission`], whose extraction proves that a
//! page of this service sent the form in the visitor's session (same origin and CSRF token).

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};

use crate::auth::session_cookie::{check_csrf_token, check_same_origin};

use super::visitor::Visitor;
use crate::console::parts::form::Form;

pub(crate) struct Submission {
    pub visitor: Visitor,
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
