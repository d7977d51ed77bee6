//! TLS: the certificate and its key, reloaded when their files change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyledger_engine::crypto::sha256::{Sha256, sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

/// A handshake that takes longer is abandoned.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How often the files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The first byte of a TLS connection: the type of a handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// An unusable certificate or key: one line that names the file and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

/// The files of a certificate and its private key, both PEM.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// The certificate, followed by the intermediate certificates of its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Accepts TLS connections with the last certificate and key that were read and valid.
pub(crate) struct Tls {
    files: TlsFiles,
    config: watch::Sender<Arc<ServerConfig>>,
    /// The digest of the files at the last check, valid or not.
    seen: Mutex<Option<[u8; 32]>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read, or the key does not belong to the certificate.
    pub(crate) fn open(files: TlsFiles) -> Result<Self, Error> {
        let contents = Contents::read(&files)?;
        let config = contents.config(&files)?;
        let seen = Mutex::new(Some(contents.digest()));
        Ok(Self { files, config: watch::Sender::new(config), seen })
    }

    /// Reloads the files. Open connections keep their certificate. Blocks.
    pub(crate) fn reload(&self) {
        *self.seen() = None;
        self.check_files();
    }

    /// Reloads the files if they have changed. An invalid pair is logged once, and the previous one stays in
    /// use.
    fn check_files(&self) {
        let contents = Contents::read(&self.files);
        let digest = contents.as_ref().map_or_else(|error| sha256(error.0.as_bytes()), Contents::digest);
        if self.seen().replace(digest) == Some(digest) {
            return;
        }
        match contents.and_then(|contents| contents.config(&self.files)) {
            Ok(config) => {
                self.config.send_replace(config);
                let file = self.files.certificate.display();
                tracing::info!(%file, "reloaded the TLS certificate for new connections");
            }
            Err(error) => {
                tracing::error!(%error, "could not reload the TLS certificate; the previous one stays");
            }
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Option<[u8; 32]>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the files for changes until the task is aborted.
    pub(crate) async fn watch_files(self: Arc<Self>) {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let tls = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || tls.check_files()).await.is_err() {
                return;
            }
        }
    }

    /// Performs the handshake. A client that speaks plain HTTP gets an answer that says to use https://.
    ///
    /// # Errors
    /// When the handshake fails or takes too long.
    pub(crate) async fn accept(&self, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.config.borrow());
        let accepting = async {
            let mut first = [HANDSHAKE];
            stream.peek(&mut first).await?;
            if first != [HANDSHAKE] {
                refuse_plain(&mut stream).await?;
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the client did not start a TLS handshake",
                ));
            }
            tokio_rustls::TlsAcceptor::from(config).accept(stream).await
        };
        tokio::time::timeout(HANDSHAKE_TIME_MAX, accepting).await?
    }
}

async fn refuse_plain(stream: &mut TcpStream) -> io::Result<()> {
    const BODY: &str = "This port requires TLS: use https:// instead of http://\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The contents of both files.
struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, Error> {
        let read = |path: &Path| {
            let advice = "check its path, owner and permissions";
            fs::read(path)
                .map_err(|error| Error(format!("{}: cannot be read: {error}; {advice}", path.display())))
        };
        Ok(Self { certificate: read(&files.certificate)?, key: Zeroizing::new(read(&files.key)?) })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for part in [&self.certificate, &*self.key] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.finalize()
    }

    fn config(&self, files: &TlsFiles) -> Result<Arc<ServerConfig>, Error> {
        let (certificate, key) = (files.certificate.display(), files.key.display());
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| {
            Error(format!("{certificate}: not PEM: {error}; provide a certificate in PEM"))
        })?;
        if chain.is_empty() {
            return Err(Error(format!(
                "{certificate}: contains no certificate; provide one that begins with \
                 -----BEGIN CERTIFICATE-----"
            )));
        }
        let private_key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => Error(format!(
                "{key}: contains no private key; provide one without a passphrase that begins with \
                 -----BEGIN PRIVATE KEY-----"
            )),
            error => Error(format!("{key}: not PEM: {error}; provide a private key in PEM")),
        })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, private_key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Error(format!(
                "{key}: does not match the certificate in {certificate}; provide the key that belongs to it"
            )),
            rustls::Error::InvalidCertificate(error) => {
                Error(format!("{certificate}: unusable certificate: {error}"))
            }
            error => Error(format!("{key}: unusable key: {error}")),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
