//! The issuer of the users whom a data directory knows. A user is identified by `iss` and `sub` together. The
//! log and the keys hold the `sub` alone, as organizations name their people by it, so the issuer must stay
//! the same: another provider's user with the same `sub` would get a stranger's keys.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use keyledger_engine::storage::atomic_file;

use super::Error;

/// Checks that the users known so far are this issuer's. Writes the issuer down the first time.
///
/// # Errors
/// When another issuer was written down, or the file cannot be read or written.
pub(crate) fn check(path: &Path, issuer: &str) -> Result<(), Error> {
    let file = path.display();
    match fs::read_to_string(path) {
        Ok(known) if known.trim() == issuer => Ok(()),
        Ok(known) => Err(Error(format!(
            "{file}: the users known here are those of {}, and with --oidc-issuer {issuer} a user with the same \
             sub would get their keys; name the former issuer, or delete the file if both have the same users",
            known.trim()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let written = atomic_file::replace(path, |file| file.write_all(format!("{issuer}\n").as_bytes()));
            written.map_err(|error| {
                Error(format!("{file}: cannot be written: {error}; check its permissions and the disk"))
            })
        }
        Err(error) => Err(Error(format!("{file}: cannot be read: {error}; check its owner and permissions"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_issuer_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("openid-issuer");
        check(&path, "https://id.example.com/").unwrap();
        check(&path, "https://id.example.com/").unwrap();
        let error = check(&path, "https://other.example.com").unwrap_err().to_string();
        assert!(error.contains("openid-issuer") && error.contains("https://id.example.com/"), "{error}");
        fs::remove_file(&path).unwrap();
        check(&path, "https://other.example.com").unwrap();
    }
}
