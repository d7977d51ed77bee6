//! Tables of what there is beside keys: rows of cells, and at the end of each row what can be done to it.

use askama::Template;

use super::badge::Badge;
use super::icon::Icon;
use super::marked::Marked;
use super::moment::Moment;
use super::tags::Tags;

/// A table. A phone shows its rows as cards.
#[derive(Template)]
#[template(path = "table.html")]
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Row>,
}

/// It escapes what it shows.
impl askama::filters::HtmlSafe for Table {}

/// A row.
pub(crate) struct Row {
    /// What programs that read aloud call it.
    pub label: String,
    /// A cell for each column.
    pub cells: Vec<Cell>,
    /// What can be done to it.
    pub menu: Vec<MenuItem>,
    /// Whether it is about something that has ended.
    pub is_over: bool,
}

/// What stands in a cell.
#[derive(Template)]
#[template(path = "cell.html")]
pub(crate) enum Cell {
    /// What people call the thing, where that leads, and a line under it.
    Title {
        /// The name.
        text: String,
        /// Its page.
        path: Option<String>,
        /// The line under it.
        under: Option<String>,
        /// What was searched for.
        searched: Option<String>,
    },
    /// A text; a dash if there is none.
    Text(Option<String>),
    /// An id, or what of a secret is shown.
    Code(String),
    /// Words, each by itself.
    Tags(Vec<String>),
    /// Sentences, each on its own line.
    Lines(Vec<String>),
    /// Where the thing stands.
    Badge(Badge),
    /// A time; a dash if there is none.
    Time(Option<Moment>),
}

/// It escapes what it shows.
impl askama::filters::HtmlSafe for Cell {}

/// What can be done to a row's thing.
pub(crate) struct MenuItem {
    label: &'static str,
    icon: Icon,
    path: String,
    is_dialog: bool,
    is_destructive: bool,
    /// What the form carries, if it is one that needs no page of its own.
    csrf_token: Option<String>,
}

impl MenuItem {
    /// What is done in a dialog.
    pub(crate) const fn dialog(label: &'static str, icon: Icon, path: String) -> Self {
        Self { label, icon, path, is_dialog: true, is_destructive: false, csrf_token: None }
    }

    /// What is done in a dialog and stops something.
    pub(crate) const fn destructive(label: &'static str, icon: Icon, path: String) -> Self {
        Self { label, icon, path, is_dialog: true, is_destructive: true, csrf_token: None }
    }

    /// What is done at once.
    pub(crate) fn submit(label: &'static str, icon: Icon, path: String, csrf_token: &str) -> Self {
        Self { csrf_token: Some(csrf_token.into()), ..Self::link(label, icon, path) }
    }

    /// Another page.
    pub(crate) const fn link(label: &'static str, icon: Icon, path: String) -> Self {
        Self { label, icon, path, is_dialog: false, is_destructive: false, csrf_token: None }
    }
}

impl Table {
    /// A table.
    pub(crate) const fn new(columns: Vec<&'static str>, rows: Vec<Row>) -> Self {
        Self { columns, rows }
    }

    /// Whether there is nothing in it.
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
    fn what_people_wrote_is_escaped() {
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
