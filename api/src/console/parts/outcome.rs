//! What verification answers, in words.

/// What verification's codes mean.
pub(crate) fn in_words(code: &str) -> &'static str {
    match code {
        "VALID" => "Good",
        "MALFORMED" => "Not a token",
        "NOT_FOUND" => "Unknown or deleted",
        "ORGANIZATION_INACTIVE" => "Organization deleted",
        "REVOKED" => "Revoked",
        "EXPIRED" => "Expired",
        "WRONG_ENVIRONMENT" => "For the other environment",
        "WRONG_ORGANIZATION" => "Of another organization",
        "WRONG_API" => "For another API",
        "INSUFFICIENT_SCOPE" => "Lacks a scope",
        "IP_NOT_ALLOWED" => "From an address that is not allowed",
        "RATE_LIMITED" => "Too many at a time",
        "CREDITS_EXHAUSTED" => "Used up",
        _ => "Refused",
    }
}
