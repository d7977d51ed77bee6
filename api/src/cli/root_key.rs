//! `keyledger root-key`.

use std::io::Write;

use clap::Subcommand;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::token::Token;
use rand::rngs::SysRng;

use super::Outcome;
use super::data::Data;
use crate::auth::access_token;
use crate::service::Service;
use crate::service::start::NotShown;

#[derive(Subcommand)]
pub(super) enum RootKeyCommand {
    /// Create a root key and print its token. The token is not shown again.
    Create {
        #[command(flatten)]
        data: Data,
        /// Permission of the root key. Repeat for several. The default is `admin`.
        #[arg(long = "permission", value_name = "P", value_parser = str::parse::<Permission>)]
        permissions: Vec<Permission>,
        /// Bind the root key to this organization, the only one that it can see.
        #[arg(long, value_name = "ID", value_parser = str::parse::<OrganizationId>)]
        organization: Option<OrganizationId>,
    },
    /// Print a random token, for KEYLEDGER_BOOTSTRAP_ROOT_KEY. It belongs to no root key until a service
    /// starts with it for the first time.
    Generate,
}

impl RootKeyCommand {
    pub(super) fn run(self) -> Outcome {
        match self {
            Self::Create { data, permissions, organization } => create(data, permissions, organization),
            Self::Generate => generate(),
        }
    }
}

fn generate() -> Outcome {
    let token = Token::generate_root(&mut SysRng)?;
    Ok(print(&token)?)
}

fn print(token: &Token) -> Result<(), NotShown> {
    writeln!(std::io::stdout(), "{}", token.expose())
        .map_err(|error| NotShown { place: "standard output".into(), error })
}

fn create(data: Data, permissions: Vec<Permission>, organization: Option<OrganizationId>) -> Outcome {
    // This command issues no access tokens.
    let access_tokens = access_token::Options { public_url: String::new(), lifetime_seconds: 1 };
    let kek = data.kek()?;
    let (service, threads) = Service::start(&data.options(access_tokens), kek)?;
    if let Some(id) = &organization
        && service.index.organization(id).is_none_or(|it| it.deleted_at.is_some())
    {
        threads.stop(&service)?;
        return Err(
            format!("{id}: no organization has this id, or it was deleted; check --organization").into()
        );
    }
    let permissions = if permissions.is_empty() { vec![Permission::Admin] } else { permissions };
    let created = service.new_root_key(permissions, organization, "Created on the command line", print);
    threads.stop(&service)?;
    let _ = writeln!(std::io::stderr(), "{} (its token is not shown again)", created?.id);
    Ok(())
}
