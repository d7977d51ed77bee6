//! Arguments about the OpenID provider.

use std::path::PathBuf;

use clap::Args;
use keyledger_engine::storage::secret_source::{self, OnCommandLine, Secret, SecretSource};

use crate::auth::oidc;

/// The OpenID provider whose users may call the API and sign in to the console.
#[derive(Args)]
pub(super) struct OpenIdProvider {
    /// Issuer of an OpenID provider whose users' tokens are accepted.
    #[arg(long, env = "KEYLEDGER_OIDC_ISSUER", value_name = "URL", requires = "oidc_audience")]
    oidc_issuer: Option<String>,
    /// Audience that the provider's tokens for this service name.
    #[arg(long, env = "KEYLEDGER_OIDC_AUDIENCE", value_name = "AUDIENCE", requires = "oidc_issuer")]
    oidc_audience: Option<String>,
    /// Claim with the user's role: owner, admin, member or auditor, or a list that contains one of them.
    #[arg(long, env = "KEYLEDGER_OIDC_ROLE_CLAIM", value_name = "CLAIM", default_value = "role")]
    oidc_role_claim: String,
    /// Claim with the id of the user's organization.
    #[arg(
        long,
        env = "KEYLEDGER_OIDC_ORGANIZATION_CLAIM",
        value_name = "CLAIM",
        default_value = "organization_id"
    )]
    oidc_organization_claim: String,
    /// Client id of the console at the provider, which enables signing in to the console there. The redirect
    /// URI is /console/openid/callback.
    #[arg(long, env = "KEYLEDGER_OIDC_CLIENT_ID", value_name = "ID", requires = "oidc_issuer")]
    oidc_client_id: Option<String>,
    /// File with the client secret of the console. The secret itself can be in the environment variable
    /// KEYLEDGER_OIDC_CLIENT_SECRET. Not needed for a public client.
    #[arg(long, env = "KEYLEDGER_OIDC_CLIENT_SECRET_FILE", value_name = "FILE", requires = "oidc_client_id")]
    oidc_client_secret_file: Option<PathBuf>,
    /// Refused: process lists show command lines.
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
    oidc_client_secret: Option<OnCommandLine>,
}

impl OpenIdProvider {
    /// Returns the provider's options; none without `--oidc-issuer`.
    ///
    /// # Errors
    /// When the client secret cannot be used.
    pub(super) fn options(self) -> Result<Option<oidc::Options>, secret_source::Error> {
        let secret = SecretSource {
            variable: "KEYLEDGER_OIDC_CLIENT_SECRET",
            file: self.oidc_client_secret_file.as_deref(),
            on_command_line: self.oidc_client_secret,
        };
        let secret = secret.find()?.map(Secret::into_text);
        let (Some(issuer), Some(audience)) = (self.oidc_issuer, self.oidc_audience) else { return Ok(None) };
        Ok(Some(oidc::Options {
            issuer,
            audience,
            role_claim: self.oidc_role_claim,
            organization_claim: self.oidc_organization_claim,
            client: self.oidc_client_id.map(|id| oidc::code_flow::ConsoleClient { id, secret }),
        }))
    }
}
