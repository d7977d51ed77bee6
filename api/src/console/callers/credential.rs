//! What root keys and applications have in common: a secret, permissions and an optional organization.

use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::time::Timestamp;
use serde::Deserialize;

use crate::auth::grant::Grant;
use crate::console::frame::form_page::confirmation;
use crate::console::parts::badge::Badge;
use crate::console::parts::field::Field;
use crate::console::parts::moment::Moment;
use crate::console::parts::table::Cell;
use crate::console::tenants::organization_choice;
use crate::console::visit::visitor::Visitor;

use super::permission_choice;

/// The fields that the API returns for both.
#[derive(Deserialize)]
pub(crate) struct Credential {
    pub id: String,
    pub organization_id: Option<String>,
    pub name: Option<String>,
    pub permissions: Vec<String>,
    pub status: String,
    pub start: String,
    pub last_four: String,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

impl Credential {
    pub(crate) fn is_active(&self) -> bool {
        self.status == "active"
    }

    /// Whether the visitor may change or end it: no one may whose rights it exceeds.
    pub(crate) fn may_be_changed_by(&self, visitor: &Visitor) -> bool {
        let permissions: Result<Vec<Permission>, _> = self.permissions.iter().map(|it| it.parse()).collect();
        let organization_id = self.organization_id.as_deref().map(str::parse).transpose();
        match (permissions, organization_id) {
            (Ok(permissions), Ok(organization_id)) => {
                visitor.may_grant(Grant::new(&permissions, organization_id.as_ref()))
            }
            _ => false,
        }
    }

    /// The text to type to confirm that it is revoked or deleted.
    pub(crate) fn confirmation(&self) -> String {
        confirmation(self.name.as_deref(), &self.last_four)
    }

    /// The cells of its row, for the columns of [`columns`].
    pub(crate) fn cells(self, visitor: &Visitor, title: String) -> Vec<Cell> {
        let organization = organization_choice::cell(visitor, self.organization_id.as_deref());
        let mut cells = vec![
            Cell::Title { text: title, path: None, under: Some(self.id), searched: None },
            Cell::Code(format!("{}…{}", self.start, self.last_four)),
            Cell::Tags(self.permissions),
        ];
        cells.extend(organization);
        cells.push(Cell::Badge(Badge::of(&self.status)));
        cells.push(Cell::Time(Some(Moment::new(self.created_at, visitor.now))));
        cells.push(Cell::Time(self.last_used_at.map(|at| Moment::new(at, visitor.now))));
        cells
    }
}

/// The column heads of a list of credentials. `secret` names the secret that they hold.
pub(crate) fn columns(visitor: &Visitor, secret: &'static str) -> Vec<&'static str> {
    organization_choice::columns(
        visitor,
        &["Name", secret, "Permissions"],
        &["Status", "Created", "Last used"],
    )
}

/// The fields of a form that creates a credential.
pub(crate) async fn creation_fields(
    visitor: &Visitor,
    placeholder: &'static str,
    hint: &'static str,
) -> Vec<Field> {
    let mut fields = vec![
        Field::line("name", "Name", placeholder).focused(),
        permission_choice::field(visitor).hint(hint),
    ];
    let limit = "The only organization it can access. Leave empty for all organizations.";
    fields.extend(organization_choice::limit_field(visitor, limit).await);
    fields
}
