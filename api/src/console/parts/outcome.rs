//! Verification codes in words.

pub(crate) fn in_words(code: &str) -> &'static str {
    match code {
        "VALID" => "Valid",
        "MALFORMED" => "Malformed token",
        "NOT_FOUND" => "Unknown or deleted",
        "ORGANIZATION_INACTIVE" => "Organization deleted",
        "REVOKED" => "Revoked",
        "EXPIRED" => "Expired",
        "WRONG_ENVIRONMENT" => "Wrong environment",
        "WRONG_ORGANIZATION" => "Wrong organization",
        "WRONG_API" => "Wrong API",
        "INSUFFICIENT_SCOPE" => "Missing scope",
        "IP_NOT_ALLOWED" => "IP address not allowed",
        "RATE_LIMITED" => "Rate limited",
        "CREDITS_EXHAUSTED" => "Credits exhausted",
        _ => "Refused",
    }
}
