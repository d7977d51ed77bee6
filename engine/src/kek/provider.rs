//! Where the key-encryption key comes from.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{InvalidKek, Kek};

/// How long a command may take.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);
/// A key is shorter. What a command prints beyond this is not read, in bytes.
const OUTPUT_LEN_MAX: u64 = 4_096;

/// Why the key-encryption key is not available: one line that says where it was sought and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Provides the key-encryption key. It is asked when a program starts.
#[async_trait]
pub trait KekProvider: Send + Sync {
    /// Fetches the key, which may take as long as a service elsewhere needs to answer.
    ///
    /// # Errors
    /// When the key cannot be fetched, or what was fetched is none.
    async fn fetch(&self) -> Result<Kek, Error>;
}

/// The key in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekFile(pub PathBuf);

#[async_trait]
impl KekProvider for KekFile {
    async fn fetch(&self) -> Result<Kek, Error> {
        let shown = self.0.display();
        let text = fs::read(&self.0).map(Zeroizing::new);
        let text = text.map_err(|error| {
            Error(format!(
                "{shown}: the key-encryption key cannot be read: {error}; check the path and permissions"
            ))
        })?;
        Kek::parse(&text).map_err(|error| Error(format!("{shown}: {error}")))
    }
}

/// A command for the shell that prints the key, such as one that lets a key management service decrypt it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekCommand(pub String);

#[async_trait]
impl KekProvider for KekCommand {
    async fn fetch(&self) -> Result<Kek, Error> {
        let failed = |reason: &dyn std::fmt::Display| {
            Error(format!(
                "--kek-command: {reason}; run the command by hand: it must print the key-encryption key"
            ))
        };
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.0).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut running = command.spawn().map_err(|error| failed(&error))?;
        let answered = async {
            let mut text = Zeroizing::new(Vec::with_capacity(OUTPUT_LEN_MAX as usize));
            if let Some(output) = running.stdout.take() {
                output.take(OUTPUT_LEN_MAX).read_to_end(&mut text).await?;
            }
            Ok::<_, std::io::Error>((text, running.wait().await?))
        };
        let answered = tokio::time::timeout(COMMAND_TIME_MAX, answered).await;
        let (text, status) = answered
            .map_err(|_| failed(&format!("no answer within {} seconds", COMMAND_TIME_MAX.as_secs())))?
            .map_err(|error| failed(&error))?;
        if !status.success() {
            return Err(failed(&format!("it failed ({status})")));
        }
        Kek::parse(&text)
            .map_err(|error: InvalidKek| failed(&format!("it printed something that is {error}")))
    }
}

/// Fetches the key on this thread, which must not be one of an async runtime.
///
/// # Errors
/// As [`KekProvider::fetch`], or when the operating system lacks resources.
pub fn fetch_blocking(provider: &dyn KekProvider) -> Result<Kek, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Error(format!("the key-encryption key cannot be fetched: {error}")))?;
    runtime.block_on(provider.fetch())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn command(text: &str) -> Result<Kek, Error> {
        fetch_blocking(&KekCommand(text.to_owned()))
    }

    #[test]
    fn a_file_and_a_command_provide_the_same_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kek");
        fs::write(&path, format!("{KEY}\n")).unwrap();
        let id = fetch_blocking(&KekFile(path.clone())).unwrap_or_else(|error| panic!("{error}")).id();
        for text in [format!("echo {KEY}"), format!("cat {}", path.display())] {
            assert_eq!(command(&text).unwrap_or_else(|error| panic!("{error}")).id(), id, "{text}");
        }
        fs::write(&path, "sesame").unwrap();
        let error = fetch_blocking(&KekFile(path.clone())).err().unwrap().to_string();
        assert!(error.contains("kek: not a key") && !error.contains("sesame"), "{error}");
        fs::remove_file(&path).unwrap();
        let error = fetch_blocking(&KekFile(path)).err().unwrap().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn a_command_that_provides_no_key_is_reported_without_what_it_printed() {
        for (text, why) in [
            (format!("echo {KEY}; exit 3"), "exit status: 3"),
            ("echo sesame".to_owned(), "not a key of 32 random bytes"),
            ("true".to_owned(), "not a key of 32 random bytes"),
            ("head -c 100000 /dev/zero".to_owned(), ""),
        ] {
            let error = command(&text).err().unwrap().to_string();
            assert!(error.starts_with("--kek-command: ") && error.contains(why), "{text}: {error}");
            assert!(!error.contains("sesame") && !error.contains(KEY), "{error}");
        }
    }
}
