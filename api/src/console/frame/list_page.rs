//! The page of a list: what it is for, a search where the call has one, the table, the way to the next page.

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

/// What a page's list is of, in words.
pub(crate) struct Listing {
    /// Whose row of the navigation it is.
    pub section: Section,
    /// Its title.
    pub title: &'static str,
    /// What it is for.
    pub lead: &'static str,
    /// Its own path.
    pub path: String,
    /// The path of the call that lists.
    pub call: String,
    /// What one of the things is called, and several.
    pub noun: (&'static str, &'static str),
    /// What the search field asks for, if the list can be searched.
    pub search: Option<&'static str>,
    /// Whether the call narrows the list to an organization.
    pub by_organization: bool,
    /// The heads of the columns.
    pub columns: Vec<&'static str>,
    /// What makes one more, and the page that does it; none for somebody who may not.
    pub create: Option<(&'static str, String)>,
    /// The organization that the page is about, if it is about one alone.
    pub of: Option<String>,
    /// The page above it, if it is no list of the navigation: its name and its path.
    pub above: Option<(String, String)>,
    /// What there is to know while there is none.
    pub empty: &'static str,
}

/// A page of things, as calls answer it.
#[derive(Deserialize)]
pub(crate) struct Things<T> {
    /// The things.
    pub data: Vec<T>,
    /// What leads to the next page.
    pub next_cursor: Option<String>,
    /// How many there are.
    pub total: u64,
    /// Whether there are more than that.
    pub total_capped: bool,
}

#[derive(Template)]
#[template(path = "list.html")]
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
    /// Reads the list as the address asks for it, and shows it.
    ///
    /// # Errors
    /// What the call answers.
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
