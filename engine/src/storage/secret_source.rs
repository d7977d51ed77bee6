//! Where a program finds a secret: an environment variable, a file that an option or another variable names,
//! or a systemd credential. Never the command line, which every user of the machine can read.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

/// A longer file is not a secret, in bytes.
const FILE_LEN_MAX: usize = 16 * 1024;
/// The beginning of every variable of Keyledger.
const VARIABLE_PREFIX: &str = "KEYLEDGER_";
/// systemd names the directory of a service's credentials in this variable.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A secret from outside the program. It has no `Debug`, `Display` or `Serialize`, and is wiped on drop.
pub struct Secret {
    text: Zeroizing<String>,
    origin: String,
}

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The secret itself, without its origin.
    #[must_use]
    pub fn into_text(self) -> Zeroizing<String> {
        self.text
    }

    /// The variable or the file that it comes from, for messages.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// Why a secret cannot be used: one line that names the variable or the file, and not the secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The secret itself is on the command line.
    #[error(
        "--{option}: a command line is visible to every user of the machine; set {variable} instead, or name a file \
         with --{option}-file or {variable}_FILE"
    )]
    OnCommandLine {
        /// The option, without its dashes.
        option: String,
        /// The variable to use instead.
        variable: &'static str,
    },
    /// The secret has two origins.
    #[error("{0} and {0}_FILE (or its option) are both set; keep one of them")]
    Twice(&'static str),
    /// The variable is not text.
    #[error("{0}: is not UTF-8; set it again")]
    NotText(&'static str),
    /// The file cannot be read.
    #[error("{file}: cannot be read: {error}; {variable}_FILE or its option names this file")]
    Unreadable {
        /// The file.
        file: String,
        /// The reason.
        error: io::Error,
        /// The variable of the secret.
        variable: &'static str,
    },
    /// The file has no text, or too much.
    #[error("{file}: must contain the secret of {variable}, as text of at most {FILE_LEN_MAX} bytes")]
    NotASecret {
        /// The file.
        file: String,
        /// The variable of the secret.
        variable: &'static str,
    },
}

/// The value of an option that used to take a secret. It forgets the text.
#[derive(Debug, Clone, Copy)]
pub struct OnCommandLine;

impl FromStr for OnCommandLine {
    type Err = std::convert::Infallible;

    fn from_str(_: &str) -> Result<Self, Self::Err> {
        Ok(Self)
    }
}

/// The places where one secret may be.
#[derive(Debug, Clone, Copy)]
pub struct SecretSource<'a> {
    /// The environment variable with the secret itself: `KEYLEDGER_TOKEN`. It gives the secret its other
    /// names: `KEYLEDGER_TOKEN_FILE`, `--token-file`, and the systemd credential `token`.
    pub variable: &'static str,
    /// The file that the option, or the variable with `_FILE`, names.
    pub file: Option<&'a Path>,
    /// The option that would have the secret itself as its value.
    pub on_command_line: Option<OnCommandLine>,
}

impl SecretSource<'_> {
    /// Returns the secret without white space at its end; none if it is in no place. An empty variable counts
    /// as not set.
    ///
    /// # Errors
    /// When the secret is on the command line, in two places, or in a file that cannot be used.
    pub fn find(&self) -> Result<Option<Secret>, Error> {
        self.find_in(|name| env::var_os(name))
    }

    fn find_in(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Secret>, Error> {
        if self.on_command_line.is_some() {
            return Err(Error::OnCommandLine { option: self.option(), variable: self.variable });
        }
        let text = variable(self.variable).map(|value| value.into_string().map(Zeroizing::new));
        let text = text.transpose().map_err(|_| Error::NotText(self.variable))?;
        let text = text.map(|text| trimmed(&text)).filter(|text| !text.is_empty());
        match (text, self.file) {
            (Some(_), Some(_)) => Err(Error::Twice(self.variable)),
            (Some(text), None) => Ok(Some(Secret { text, origin: self.variable.to_owned() })),
            (None, Some(file)) => self.read(file).map(Some),
            (None, None) => {
                let credential = variable(CREDENTIALS).map(|it| PathBuf::from(it).join(self.option()));
                credential.filter(|file| file.is_file()).map(|file| self.read(&file)).transpose()
            }
        }
    }

    /// `bootstrap-root-key` for `KEYLEDGER_BOOTSTRAP_ROOT_KEY`.
    fn option(&self) -> String {
        let name = self.variable.strip_prefix(VARIABLE_PREFIX).unwrap_or(self.variable);
        name.to_ascii_lowercase().replace('_', "-")
    }

    fn read(&self, path: &Path) -> Result<Secret, Error> {
        let (file, variable) = (path.display().to_string(), self.variable);
        // Full capacity up front: growing the buffer would leave an unwiped copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LEN_MAX + 1));
        let read = File::open(path).and_then(|it| it.take(FILE_LEN_MAX as u64 + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            return Err(Error::Unreadable { file, error, variable });
        }
        let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= FILE_LEN_MAX).map(trimmed);
        match text.filter(|text| !text.is_empty()) {
            Some(text) => Ok(Secret { text, origin: file }),
            None => Err(Error::NotASecret { file, variable }),
        }
    }
}

/// Editors and `echo` end a file with a newline that belongs to no secret.
fn trimmed(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SOURCE: SecretSource<'_> =
        SecretSource { variable: "KEYLEDGER_TOKEN", file: None, on_command_line: None };

    fn find(source: SecretSource<'_>, variables: &[(&str, &str)]) -> Result<Option<(String, String)>, Error> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, it)| (*it).into());
        Ok(source.find_in(variable)?.map(|secret| (secret.expose().to_owned(), secret.origin().to_owned())))
    }

    #[test]
    fn a_secret_comes_from_a_variable_a_file_or_a_credential() {
        let directory = tempfile::tempdir().unwrap();
        let credentials = directory.path().display().to_string();
        let file = directory.path().join("secret");
        fs::write(&file, "from a file \r\n\n").unwrap();
        let with_file = SecretSource { file: Some(&file), ..SOURCE };
        let of = |text: &str, origin: &str| Some((text.to_owned(), origin.to_owned()));
        assert_eq!(find(SOURCE, &[]).unwrap(), None);
        assert_eq!(find(SOURCE, &[("KEYLEDGER_TOKEN", " ")]).unwrap(), None);
        assert_eq!(find(SOURCE, &[("KEYLEDGER_TOKEN", "x\n")]).unwrap(), of("x", "KEYLEDGER_TOKEN"));
        let from_file = of("from a file", file.to_str().unwrap());
        assert_eq!(find(with_file, &[("KEYLEDGER_TOKEN", "")]).unwrap(), from_file);
        let variables = [("CREDENTIALS_DIRECTORY", credentials.as_str())];
        assert_eq!(find(SOURCE, &variables).unwrap(), None);
        let credential = directory.path().join("token");
        fs::write(&credential, "from systemd").unwrap();
        assert_eq!(find(SOURCE, &variables).unwrap(), of("from systemd", credential.to_str().unwrap()));
        assert_eq!(find(with_file, &variables).unwrap(), from_file);
    }

    #[test]
    fn an_error_names_the_place_and_not_the_secret() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let with_file = SecretSource { file: Some(&file), ..SOURCE };
        let error = |source, variables: &[(&str, &str)]| find(source, variables).unwrap_err().to_string();
        let variable = &[("KEYLEDGER_TOKEN", "sesame")][..];
        let typed = SecretSource { on_command_line: Some("sesame".parse().unwrap()), ..SOURCE };
        for (error, part) in [
            (error(typed, &[]), "--token-file or KEYLEDGER_TOKEN_FILE"),
            (error(with_file, variable), "KEYLEDGER_TOKEN and KEYLEDGER_TOKEN_FILE"),
            (error(with_file, &[]), "KEYLEDGER_TOKEN_FILE"),
        ] {
            assert!(error.contains(part) && !error.contains("sesame"), "{error}");
        }
        for content in [&b""[..], b"\n \n", b"\xff", &[b'x'; FILE_LEN_MAX + 1]] {
            fs::write(&file, content).unwrap();
            let error = error(with_file, &[]);
            assert!(error.contains(file.to_str().unwrap()) && error.contains("KEYLEDGER_TOKEN"), "{error}");
        }
    }
}
