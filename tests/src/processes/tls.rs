//! Certificates from openssl, and curl as a client that checks them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A self-signed certificate for 127.0.0.1 and localhost, and its key, in a directory.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate. It is self-signed, so clients must trust it itself.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Pair {
    /// Creates a new pair in files whose names start with `name`.
    ///
    /// # Panics
    /// When openssl is not installed.
    #[must_use]
    pub fn make(directory: &Path, name: &str) -> Self {
        let pair = Self {
            certificate: directory.join(format!("{name}-cert.pem")),
            key: directory.join(format!("{name}-key.pem")),
        };
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            // Some clients do not accept a CA certificate as a server certificate.
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&pair.key)
            .arg("-out")
            .arg(&pair.certificate)
            .output()
            .expect("openssl is not installed: run tests/tools-install.sh test");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        pair
    }

    /// The arguments that make the service use the pair.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let [certificate, key] = [&self.certificate, &self.key].map(|path| path.display().to_string());
        vec!["--tls-cert".into(), certificate, "--tls-key".into(), key]
    }
}

/// Runs curl with `certificate` as the only trusted one.
///
/// # Panics
/// When curl is not installed.
#[must_use]
pub fn curl(certificate: &Path, arguments: &[&str]) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(certificate)
        .args(arguments)
        .output()
        .expect("curl is not installed: run tests/tools-install.sh test")
}
