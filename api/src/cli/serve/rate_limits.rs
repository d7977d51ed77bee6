//! The options for rate limits.

use clap::Args;

use crate::admission::rate_limits::policy::{Policy, Quotas};
use crate::admission::rate_limits::quota::Quota;

/// A limit is so many requests at once, and as many again over each span of time; 0 is none.
#[derive(Args)]
pub(super) struct RateLimits {
    /// Changes by one person, who has a portal session or signed in at the OpenID provider; such as 100/5s, 0
    /// for no limit.
    #[arg(
        long,
        env = "KEYLEDGER_RATE_LIMIT_SESSION_WRITES",
        value_name = "N/TIME",
        default_value = "100/5s"
    )]
    rate_limit_session_writes: Quota,
    /// Changes by one root key or application that is bound to an organization; such as 100/5s, 0 for no
    /// limit.
    #[arg(long, env = "KEYLEDGER_RATE_LIMIT_WRITES", value_name = "N/TIME", default_value = "3000/30s")]
    rate_limit_writes: Quota,
    /// Changes by all callers that are bound to one organization; such as 100/5s, 0 for no limit.
    #[arg(
        long,
        env = "KEYLEDGER_RATE_LIMIT_ORGANIZATION_WRITES",
        value_name = "N/TIME",
        default_value = "6000/30s"
    )]
    rate_limit_organization_writes: Quota,
    /// Reads by one caller that is bound to an organization; such as 100/5s, 0 for no limit.
    #[arg(long, env = "KEYLEDGER_RATE_LIMIT_READS", value_name = "N/TIME", default_value = "3000/1m")]
    rate_limit_reads: Quota,
    /// Reads by all callers that are bound to one organization; such as 100/5s, 0 for no limit.
    #[arg(
        long,
        env = "KEYLEDGER_RATE_LIMIT_ORGANIZATION_READS",
        value_name = "N/TIME",
        default_value = "12000/1m"
    )]
    rate_limit_organization_reads: Quota,
    /// Changes by one caller that is not bound to an organization; such as 100/5s, 0 for no limit.
    #[arg(long, env = "KEYLEDGER_RATE_LIMIT_OPERATOR_WRITES", value_name = "N/TIME", default_value = "0")]
    rate_limit_operator_writes: Quota,
    /// Reads by one caller that is not bound to an organization; such as 100/5s, 0 for no limit.
    #[arg(long, env = "KEYLEDGER_RATE_LIMIT_OPERATOR_READS", value_name = "N/TIME", default_value = "0")]
    rate_limit_operator_reads: Quota,
    /// Tokens verified by one caller. What gateways ask at /v1/forward-auth is not limited; such as 100/5s, 0
    /// for no limit.
    #[arg(long, env = "KEYLEDGER_RATE_LIMIT_VERIFICATIONS", value_name = "N/TIME", default_value = "0")]
    rate_limit_verifications: Quota,
    /// Requests from one IPv4 address or IPv6 network of 64 bits, except those of callers that are not bound
    /// to an organization; such as 100/5s, 0 for no limit.
    #[arg(long, env = "KEYLEDGER_RATE_LIMIT_ADDRESS", value_name = "N/TIME", default_value = "60000/1m")]
    rate_limit_address: Quota,
    /// Requests from one address to endpoints that need no credential; such as 100/5s, 0 for no limit.
    #[arg(long, env = "KEYLEDGER_RATE_LIMIT_ANONYMOUS", value_name = "N/TIME", default_value = "3000/1m")]
    rate_limit_anonymous: Quota,
    /// Requests from one address whose credential is missing or invalid. Valid ones are not limited; such as
    /// 100/5s, 0 for no limit.
    #[arg(
        long,
        env = "KEYLEDGER_RATE_LIMIT_FAILED_AUTHENTICATIONS",
        value_name = "N/TIME",
        default_value = "6000/1m"
    )]
    rate_limit_failed_authentications: Quota,
    /// Attempts from one address to sign in to the console; such as 100/5s, 0 for no limit.
    #[arg(long, env = "KEYLEDGER_RATE_LIMIT_SIGN_INS", value_name = "N/TIME", default_value = "120/1m")]
    rate_limit_sign_ins: Quota,
}

impl RateLimits {
    pub(super) fn quotas(&self) -> Quotas {
        Quotas::new(|policy| match policy {
            Policy::SessionWrites => self.rate_limit_session_writes,
            Policy::Writes => self.rate_limit_writes,
            Policy::OrganizationWrites => self.rate_limit_organization_writes,
            Policy::Reads => self.rate_limit_reads,
            Policy::OrganizationReads => self.rate_limit_organization_reads,
            Policy::OperatorWrites => self.rate_limit_operator_writes,
            Policy::OperatorReads => self.rate_limit_operator_reads,
            Policy::Verifications => self.rate_limit_verifications,
            Policy::Address => self.rate_limit_address,
            Policy::Anonymous => self.rate_limit_anonymous,
            Policy::FailedAuthentications => self.rate_limit_failed_authentications,
            Policy::SignIns => self.rate_limit_sign_ins,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        _limits: RateLimits,
    }

    #[test]
    fn every_policy_is_an_option_of_its_name() {
        let line = Line::command();
        for policy in Policy::ALL {
            let name = format!("rate-limit-{}", policy.as_str());
            assert!(line.get_arguments().any(|it| it.get_long() == Some(&*name)), "{name}");
        }
    }
}
