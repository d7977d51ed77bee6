//! Pages of lists that are ordered by id.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::request::Parts;
use keyledger_engine::value::id::OrganizationId;
use serde::Serialize;
use utoipa::IntoParams;

use crate::answer::problem::Problem;
use crate::answer::view::Page;
use crate::request::query::QueryParameters;

/// Items of a page unless the call says otherwise.
pub(crate) const LIMIT_DEFAULT: usize = 50;
/// The most items of a page.
pub(crate) const LIMIT_MAX: usize = 200;
/// Totals are exact up to here.
const TOTAL_MAX: u64 = 10_000;

/// Which page. It describes the parameters; [`Paging`] reads them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(crate) struct PageQuery {
    /// How many items: 1 to 200; 50 if left out.
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which page of what can be bound to an organization. It describes the parameters; [`BoundPaging`] reads them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(crate) struct BoundPageQuery {
    /// Only what is bound to this organization.
    organization_id: Option<String>,
    /// How many items: 1 to 200; 50 if left out.
    limit: Option<u32>,
    /// The `next_cursor` of the page before; the organization must be the same.
    cursor: Option<String>,
}

/// A page to be answered of what can be bound to an organization.
pub(crate) struct BoundPaging {
    /// The page.
    pub paging: Paging,
    organization_id: Option<OrganizationId>,
}

/// A page to be answered.
pub(crate) struct Paging {
    /// How many items it may have.
    pub limit: usize,
    cursor: Option<String>,
}

/// Reads a page's size.
///
/// # Errors
/// `invalid_request`.
pub(crate) fn limit_of(text: &str) -> Result<usize, Problem> {
    match text.parse() {
        Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        _ => Err(Problem::field("?limit", "must be a whole number from 1 to 200")),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(mut parameters) = QueryParameters::from_request_parts(parts, state).await;
        let paging = Self::of(&mut parameters);
        parameters.finish()?;
        Ok(paging)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for BoundPaging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(mut parameters) = QueryParameters::from_request_parts(parts, state).await;
        let organization_id = parameters.parsed("organization_id");
        let paging = Paging::of(&mut parameters);
        parameters.finish()?;
        Ok(Self { paging, organization_id })
    }
}

impl BoundPaging {
    /// Whether the list is narrowed to an organization.
    pub(crate) const fn is_narrowed(&self) -> bool {
        self.organization_id.is_some()
    }

    /// Whether what is bound to an organization, or to none, is asked for.
    pub(crate) fn has(&self, organization_id: Option<&OrganizationId>) -> bool {
        self.organization_id.is_none() || self.organization_id.as_ref() == organization_id
    }
}

impl Paging {
    /// Takes which page is asked for out of the parameters of a call that has others beside.
    pub(crate) fn of(parameters: &mut QueryParameters) -> Self {
        Self { limit: parameters.limit(), cursor: parameters.text_or_empty("cursor") }
    }

    /// The id after which the page begins.
    ///
    /// # Errors
    /// `invalid_request` for a cursor that no page gave.
    pub(crate) fn after<I: FromStr>(&self) -> Result<Option<I>, Problem> {
        self.after_known(|_| true)
    }

    /// The same for ids that may have any form: `is_known` says whether a page can have given one.
    ///
    /// # Errors
    /// `invalid_request` for a cursor that no page gave.
    pub(crate) fn after_known<I: FromStr>(
        &self,
        is_known: impl FnOnce(&I) -> bool,
    ) -> Result<Option<I>, Problem> {
        let Some(cursor) = self.cursor.as_deref() else { return Ok(None) };
        let id = cursor.parse().ok().filter(is_known);
        id.map(Some)
            .ok_or_else(|| Problem::field("?cursor", "is not a cursor of this list; start again without it"))
    }

    /// The page out of the whole list, in the order of ids, after the id given.
    pub(crate) fn page_of_all<T, I: PartialOrd + ToString, V: Serialize>(
        &self,
        mut all: Vec<T>,
        after: Option<&I>,
        id: impl Fn(&T) -> I,
        view: impl Fn(&T) -> V,
    ) -> Page<V> {
        let total = all.len() as u64;
        all.retain(|item| after.is_none_or(|after| id(item) > *after));
        self.page(all, total, |item| id(item).to_string(), view)
    }

    /// The page out of `found`, which holds one item more than the page where there is a next one.
    pub(crate) fn page<T, V: Serialize>(
        &self,
        mut found: Vec<T>,
        total: u64,
        id: impl Fn(&T) -> String,
        view: impl Fn(&T) -> V,
    ) -> Page<V> {
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let next_cursor = if more { found.last().map(id) } else { None };
        let data = found.iter().map(view).collect();
        Page { data, next_cursor, total: total.min(TOTAL_MAX), total_capped: total > TOTAL_MAX }
    }
}
