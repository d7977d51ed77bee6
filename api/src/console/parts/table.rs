//! Tables of everything but keys: rows of cells with an action menu.

use askama::Template;

use super::badge::Badge;
use super::icon::Icon;
use super::marked::Marked;
use super::moment::Moment;
use super::tags::Tags;

/// A table. Narrow screens show its rows as cards.
#[derive(Template)]
#[template(path = "parts/table.html")]
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Row>,
}

/// The template escapes every value.
impl askama::filters::HtmlSafe for Table {}

pub(crate) struct Row {
    /// The row's name for screen readers.
    pub label: String,
    /// One cell per column.
    pub cells: Vec<Cell>,
    pub menu: Vec<MenuItem>,
    /// Whether the row's object has ended and is shown muted.
    pub is_over: bool,
}

#[derive(Template)]
#[template(path = "parts/cell.html")]
pub(crate) enum Cell {
    /// The object's name, with a link to its page and a second line.
    Title {
        text: String,
        path: Option<String>,
        under: Option<String>,
        /// The search term to mark.
        searched: Option<String>,
    },
    /// A text, or a dash.
    Text(Option<String>),
    /// An id, or the visible part of a secret.
    Code(String),
    Tags(Vec<String>),
    /// Sentences, one per line.
    Lines(Vec<String>),
    Badge(Badge),
    /// A time, or a dash.
    Time(Option<Moment>),
}

/// The template escapes every value.
impl askama::filters::HtmlSafe for Cell {}

/// An entry of a row's action menu.
pub(crate) struct MenuItem {
    label: &'static str,
    icon: Icon,
    path: String,
    is_dialog: bool,
    is_destructive: bool,
    /// Set for an entry that is submitted directly instead of opening a page.
    csrf_token: Option<String>,
}

impl MenuItem {
    /// Opens a dialog.
    pub(crate) const fn dialog(label: &'static str, icon: Icon, path: String) -> Self {
        Self { label, icon, path, is_dialog: true, is_destructive: false, csrf_token: None }
    }

    /// Opens a dialog for a destructive action.
    pub(crate) const fn destructive(label: &'static str, icon: Icon, path: String) -> Self {
        Self { label, icon, path, is_dialog: true, is_destructive: true, csrf_token: None }
    }

    /// Submits a form directly.
    pub(crate) fn submit(label: &'static str, icon: Icon, path: String, csrf_token: &str) -> Self {
        Self { csrf_token: Some(csrf_token.into()), ..Self::link(label, icon, path) }
    }

    /// Opens another page.
    pub(crate) const fn link(label: &'static str, icon: Icon, path: String) -> Self {
        Self { label, icon, path, is_dialog: false, is_destructive: false, csrf_token: None }
    }
}

impl Table {
    pub(crate) const fn new(columns: Vec<&'static str>, rows: Vec<Row>) -> Self {
        Self { columns, rows }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn cells<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = (&'static str, &'a Cell)> {
        self.columns.iter().copied().zip(&row.cells)
    }

    fn has_menus(&self) -> bool {
        self.rows.iter().any(|row| !row.menu.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        let title = Cell::Title {
            text: "<b>x".into(),
            path: Some("/console/x\"".into()),
            under: Some("<i>".into()),
            searched: Some("b".into()),
        };
        let row = Row {
            label: "\"><script>".into(),
            cells: vec![title, Cell::Text(Some("<u>".into())), Cell::Text(None)],
            menu: vec![MenuItem::link("Open", Icon::KEY, "/x".into())],
            is_over: false,
        };
        let text = Table::new(vec!["Name", "Text", "None"], vec![row]).to_string();
        assert!(text.contains("&lt;<mark>b</mark>&gt;x"), "{text}");
        for markup in ["<b>", "<i>", "<u>", "<script>", "x\"\""] {
            assert!(!text.contains(markup), "{markup} in {text}");
        }
        assert!(text.contains("data-label=\"Text\"") && text.contains("—"));
    }
}
