//! A page with a list: title, search where the endpoint supports it, table and pager.

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::answer::problem::Problem;

use super::navigation::Section;
use super::page_frame::{Frame, Page, page};
use crate::console::parts::icon::Icon;
use crate::console::parts::number::grouped;
use crate::console::parts::query_string::QueryString;
use crate::console::parts::table::{Row, Table};
use crate::console::visit::visitor::Visitor;

/// The texts and paths of a list page.
pub(crate) struct Listing {
    pub section: Section,
    pub title: &'static str,
    /// The sentence under the title.
    pub lead: &'static str,
    /// The page's path.
    pub path: String,
    /// The path of the list endpoint.
    pub call: String,
    /// Singular and plural of what is listed.
    pub noun: (&'static str, &'static str),
    /// The placeholder of the search field, if the endpoint supports search.
    pub search: Option<&'static str>,
    /// Whether the endpoint filters by organization.
    pub by_organization: bool,
    pub columns: Vec<&'static str>,
    /// Label and path of the create button, for visitors who may create.
    pub create: Option<(&'static str, String)>,
    /// The organization that the page is about, if any.
    pub of: Option<String>,
    /// Name and path of the parent page, if the list has no row in the navigation.
    pub above: Option<(String, String)>,
    /// The text of an empty list.
    pub empty: &'static str,
}

/// A page of a list as the API returns it.
#[derive(Deserialize)]
pub(crate) struct Things<T> {
    pub data: Vec<T>,
    pub next_cursor: Option<String>,
    pub total: u64,
    /// Whether the API stopped counting at `total`.
    pub total_capped: bool,
}

#[derive(Template)]
#[template(path = "frame/list.html")]
struct ListPage {
    frame: Frame,
    listing: Listing,
    table: Table,
    searched: Option<String>,
    organization: Option<String>,
    total: String,
    is_filtered: bool,
    cleared: String,
    next: Option<String>,
    first: Option<String>,
}

page!(ListPage);

impl ListPage {
    fn noun(&self) -> &'static str {
        if self.total == "1" { self.listing.noun.0 } else { self.listing.noun.1 }
    }
}

impl Listing {
    /// Reads the list that the address asks for and renders the page.
    ///
    /// # Errors
    /// The problem that the API returns.
    pub(crate) async fn answer<T: DeserializeOwned>(
        self,
        visitor: &Visitor,
        row: impl Fn(T, Option<&str>) -> Row,
    ) -> Result<Response, Problem> {
        let query = QueryString::of(&visitor.address);
        let chosen = query.get("organization_id").map(ToOwned::to_owned);
        let organization = self.of.clone().or(chosen);
        let searched = query.get("q").filter(|_| self.search.is_some()).map(ToOwned::to_owned);
        let mut call = QueryString::default().with("cursor", query.get("cursor"));
        call = call.with("q", searched.as_deref());
        if self.by_organization {
            call = call.with("organization_id", organization.as_deref());
        }
        let things: Things<T> = visitor.read(&call.after(&self.call)).await?;
        let rows = things.data.into_iter().map(|thing| row(thing, searched.as_deref())).collect();
        let total = grouped(things.total);
        let page = ListPage {
            frame: Frame::of(visitor, self.title, Some(self.section), organization.as_deref()).await,
            table: Table::new(self.columns.clone(), rows),
            total: if things.total_capped { format!("more than {total}") } else { total },
            is_filtered: searched.is_some(),
            cleared: query.with("q", None).with("cursor", None).after(&self.path),
            next: things.next_cursor.map(|cursor| query.with("cursor", Some(&cursor)).after(&self.path)),
            first: query.get("cursor").map(|_| query.with("cursor", None).after(&self.path)),
            searched,
            organization,
            listing: self,
        };
        Ok(page.answer(StatusCode::OK))
    }
}
