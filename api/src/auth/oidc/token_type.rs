//! The type of a token, from its `typ` header (RFC 8725 §3.11): an access token, or a JWT without a more
//! specific type. A token of any other type, such as `logout+jwt`, was issued for another purpose.

/// An access token (RFC 9068 §2.1), and a JWT whose type the provider does not tell apart.
const ACCEPTED: [&str; 2] = ["at+jwt", "jwt"];

/// Whether a token of this type may authenticate a user. Some providers set no `typ`; issuer, audience and
/// claims decide about their tokens.
pub(super) fn is_accepted(typ: Option<&str>) -> bool {
    let Some(typ) = typ else { return true };
    let typ = typ.to_ascii_lowercase();
    // The prefix may be omitted (RFC 7515 §4.1.9).
    ACCEPTED.contains(&typ.strip_prefix("application/").unwrap_or(&typ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_access_tokens_and_plain_jwts() {
        for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", "jwt", "application/jwt"] {
            assert!(is_accepted(Some(typ)), "{typ}");
        }
        assert!(is_accepted(None));
        for typ in ["logout+jwt", "secevent+jwt", "dpop+jwt", "application/logout+jwt", "JOSE", ""] {
            assert!(!is_accepted(Some(typ)), "{typ}");
        }
    }
}
