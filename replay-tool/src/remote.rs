//! The HTTP client that fetches a backup from a running service.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::output::report::Failure;

/// How long connecting to a service may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long a service may take to begin its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Certificate authorities are not needed for these addresses.
const PLAIN_SCHEME: &str = "http://";
/// A longer problem document is cut.
const PROBLEM_LEN_MAX: u64 = 65_536;

/// Requests a backup from the service at `url` and returns its bytes as they arrive.
pub(crate) fn backup(
    url: &str,
    token: Option<&str>,
    ca_cert: Option<&Path>,
) -> Result<impl Read + use<>, Failure> {
    let token = token.ok_or_else(|| {
        Failure::could_not_run(
            "the root key is missing; set KEYLEDGER_TOKEN to one with the permission admin, or name its file with \
             --token-file or KEYLEDGER_TOKEN_FILE",
        )
    })?;
    let agent = agent(url, ca_cert)?;
    let address = format!("{}/v1/backup", url.trim_end_matches('/'));
    let request = agent.get(&address).header("authorization", &format!("Bearer {token}"));
    let answer = request.call().map_err(|error| {
        Failure::could_not_run(format!(
            "{url}: {error}; give the URL of the running service, such as http://127.0.0.1:7070"
        ))
    })?;
    let (status, body) = (answer.status().as_u16(), answer.into_body());
    if status == 200 {
        return Ok(body.into_reader());
    }
    Err(Failure::could_not_run(format!("{url}: {}", refusal(status, body))))
}

fn agent(url: &str, ca_cert: Option<&Path>) -> Result<Agent, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    let is_plain = url.get(..PLAIN_SCHEME.len()).is_some_and(|it| it.eq_ignore_ascii_case(PLAIN_SCHEME));
    if let Some(path) = ca_cert {
        tls = tls.root_certs(roots(&certificates_in(path)?));
    } else if !is_plain {
        tls = tls.root_certs(roots(&system_certificates()?));
    }
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A redirect would send the token to another service.
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(ANSWER_LIMIT))
        .tls_config(tls.build())
        .build();
    Ok(config.into())
}

fn roots(certificates: &[CertificateDer<'static>]) -> RootCerts {
    let certificates: Vec<_> =
        certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    RootCerts::new_with_certs(&certificates)
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    certificates.map_err(|error| {
        Failure::could_not_run(format!(
            "{}: no certificates in PEM: {error}; name another file with --ca-cert",
            path.display()
        ))
    })
}

/// Loads the certificate authorities that the service trusts too: the system's, or those that `SSL_CERT_FILE`
/// and `SSL_CERT_DIR` name.
fn system_certificates() -> Result<Vec<CertificateDer<'static>>, Failure> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        let reason = loaded.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(Failure::could_not_run(format!(
            "no certificate authority is trusted{reason}; install ca-certificates, or name a \
             file with --ca-cert"
        )));
    }
    Ok(loaded.certs)
}

/// Describes an answer that is not a backup, and says what to do.
fn refusal(status: u16, body: Body) -> String {
    let mut text = String::new();
    // The status alone is enough to say what to do.
    let _ = body.into_reader().take(PROBLEM_LEN_MAX).read_to_string(&mut text);
    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
    let said = |name: &str| problem.get(name).and_then(Value::as_str);
    let said = said("detail").or_else(|| said("title")).map_or_else(String::new, |text| format!(": {text}"));
    let help = match status {
        401 => "give a root key of this service in KEYLEDGER_TOKEN or a file (--token-file)",
        403 => "give a root key with the permission admin that is not bound to an organization",
        404 | 405 => "no Keyledger with backups answers there; check the URL and the service's version",
        503 => "try again when `/readyz` reports the service ready",
        _ => "check the URL and the service's log",
    };
    format!("the service answered {status}{said}; {help}")
}
