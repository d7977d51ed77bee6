//! Pages of lists in the order of ids.

use std::str::FromStr;
use std::sync::Arc;

use keyledger_engine::value::id::OrganizationId;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use crate::answer::page::Page;
use crate::answer::problem::Problem;
use crate::auth::caller::Caller;
use crate::request::object::BoundObject;
use crate::request::query::{FromQuery, QueryParameters};

/// Totals are exact up to this number.
const TOTAL_MAX: u64 = 10_000;

/// The page that a request asks for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// The number of items: 1 to 200. Default 50.
    #[param(value_type = Option<u32>)]
    pub limit: usize,
    /// The `next_cursor` of the previous page. All other parameters must be the same.
    cursor: Option<String>,
}

impl FromQuery for Paging {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        Self { limit: parameters.limit(), cursor: parameters.text_or_empty("cursor") }
    }
}

/// The organization that a list is narrowed to.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct Narrowing {
    /// Only objects that are bound to this organization.
    #[param(value_type = Option<String>)]
    organization_id: Option<OrganizationId>,
}

/// The page that a request asks for, of objects that can be bound to an organization.
pub(crate) struct BoundPaging {
    pub paging: Paging,
    narrowing: Narrowing,
}

impl IntoParams for BoundPaging {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [Narrowing::into_params(&place), Paging::into_params(place)].concat()
    }
}

impl FromQuery for BoundPaging {
    fn from_query(parameters: &mut QueryParameters) -> Self {
        let narrowing = Narrowing { organization_id: parameters.parsed("organization_id") };
        Self { paging: Paging::from_query(parameters), narrowing }
    }
}

impl BoundPaging {
    /// Returns whether the list is narrowed to an organization.
    pub(crate) const fn is_narrowed(&self) -> bool {
        self.narrowing.organization_id.is_some()
    }

    /// Returns whether the request asks for objects of this organization. `None` stands for objects of no
    /// organization.
    pub(crate) fn has(&self, organization_id: Option<&OrganizationId>) -> bool {
        !self.is_narrowed() || self.narrowing.organization_id.as_ref() == organization_id
    }

    /// Returns the page of the objects in `all` that the caller may see and the request asks for.
    ///
    /// # Errors
    /// `invalid_request` for an unknown cursor.
    pub(crate) fn page_of_visible<T: BoundObject, V: Serialize>(
        &self,
        caller: &Caller,
        mut all: Vec<Arc<T>>,
        view: impl Fn(&T) -> V,
    ) -> Result<Page<V>, Problem> {
        let after = self.paging.after()?;
        all.retain(|it| caller.sees_owned_by(it.organization_id()) && self.has(it.organization_id()));
        Ok(self.paging.page_of_all(all, after.as_ref(), |it| it.id(), |it| view(it)))
    }
}

impl Paging {
    /// Returns the id after which the page begins.
    ///
    /// # Errors
    /// `invalid_request` for an unknown cursor.
    pub(crate) fn after<I: FromStr>(&self) -> Result<Option<I>, Problem> {
        self.after_known(|_| true)
    }

    /// Does the same for ids of any form. `is_known` decides whether a page can have answered the id as its
    /// cursor.
    ///
    /// # Errors
    /// `invalid_request` for an unknown cursor.
    pub(crate) fn after_known<I: FromStr>(
        &self,
        is_known: impl FnOnce(&I) -> bool,
    ) -> Result<Option<I>, Problem> {
        let Some(cursor) = self.cursor.as_deref() else { return Ok(None) };
        let id = cursor.parse().ok().filter(is_known);
        id.map(Some)
            .ok_or_else(|| Problem::field("?cursor", "is not a cursor of this list; start again without it"))
    }

    /// Returns the page of a whole list, in the order of ids, after the given id.
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

    /// Returns the page of `found`, which has one item more than the page if another page follows.
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
