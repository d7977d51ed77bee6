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

/// Time limit for the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Time limit for the response head.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// At most this many bytes of a problem response are read.
const PROBLEM_LEN_MAX: u64 = 65_536;

/// Requests a backup of the service at `url` and returns its body, unread.
pub(crate) fn backup(
    url: &str,
    token: Option<&str>,
    ca_cert: Option<&Path>,
) -> Result<impl Read + use<>, Failure> {
    let token = token.ok_or_else(|| {
        Failure::could_not_run(
            "--token is missing; put a root key with the permission admin into KEYLEDGER_TOKEN, where process lists \
             do not show it",
        )
    })?;
    let agent = agent(ca_cert)?;
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
    Err(Failure::could_not_run(format!("{url}: {}", problem(status, body))))
}

fn agent(ca_cert: Option<&Path>) -> Result<Agent, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    if let Some(path) = ca_cert {
        let shown = path.display();
        let certificates =
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = certificates.map_err(|error| {
            Failure::could_not_run(format!(
                "{shown}: no PEM certificates: {error}; name another file with --ca-cert"
            ))
        })?;
        let certificates: Vec<_> =
            certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
    }
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A redirect would send the token to a service that the caller did not name.
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(ANSWER_LIMIT))
        .tls_config(tls.build())
        .build();
    Ok(config.into())
}

/// The text for a response that is not a backup: its status, its detail and what to do.
fn problem(status: u16, body: Body) -> String {
    let mut text = String::new();
    // An unreadable body leaves the status alone.
    let _ = body.into_reader().take(PROBLEM_LEN_MAX).read_to_string(&mut text);
    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
    let said = |name: &str| problem.get(name).and_then(Value::as_str);
    let said = said("detail").or_else(|| said("title")).map_or_else(String::new, |text| format!(": {text}"));
    let help = match status {
        401 => "give a root key of this service with --token or KEYLEDGER_TOKEN",
        403 => "give a root key with the permission admin that is not bound to an organization",
        404 | 405 => "no Keyledger with backups answers there; check the URL and the service's version",
        503 => "try again when the service is ready; `/readyz` says what is wrong",
        _ => "check the URL and the service's log",
    };
    format!("the service answered {status}{said}; {help}")
}
