//! Arguments about the OpenID provider.

use clap::Args;
use zeroize::Zeroizing;

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
    /// Client secret of the console. Not needed for a public client.
    #[arg(
        long,
        env = "KEYLEDGER_OIDC_CLIENT_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        requires = "oidc_client_id"
    )]
    oidc_client_secret: Option<String>,
}

impl OpenIdProvider {
    /// Returns the provider's options; none without `--oidc-issuer`.
    pub(super) fn options(self) -> Option<oidc::Options> {
        Some(oidc::Options {
            issuer: self.oidc_issuer?,
            audience: self.oidc_audience?,
            role_claim: self.oidc_role_claim,
            organization_claim: self.oidc_organization_claim,
            client: self.oidc_client_id.map(|id| oidc::code_flow::ConsoleClient {
                id,
                secret: self.oidc_client_secret.map(Zeroizing::new),
            }),
        })
    }
}
