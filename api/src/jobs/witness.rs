//! Witnesses (C2SP tlog-witness): independent services that receive every checkpoint with a proof that the
//! log is append-only, remember it, and cosign it. A client that requires cosignatures cannot be shown a log
//! that others do not see. If the log is replaced by an older copy together with its checkpoints, the
//! witnesses' memory reveals it.
//!
//! A witness that does not answer delays one checkpoint a minute by its time limit, and nothing else.

use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use keyledger_engine::log::LogReader;
use keyledger_engine::transparency::checkpoint::Checkpoint;
use keyledger_engine::transparency::note::{Note, Signature, WitnessKey};
use keyledger_engine::transparency::submission;
use keyledger_engine::value::time::Timestamp;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::outbound::connector::NoTrustRoots;
use crate::outbound::http_client::HttpClient;
use crate::service::Service;
use crate::service::log_signer::Refusal;

/// How long a witness may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// An answer is a few lines. A longer one is an error, in bytes.
const ANSWER_LEN_MAX: usize = 16 * 1024;
/// The pause after a failed request to a witness.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// The first attempt may return the size that the witness has seen, and the second continues from there. More
/// are needed only when another client submits this log's checkpoints at the same time.
const ATTEMPTS_MAX: usize = 3;

/// A witness as configured: its public key and the address that receives checkpoints. Its text is `<key>
/// <URL>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Witness {
    key: WitnessKey,
    add_checkpoint: Uri,
}

/// Why a text is not a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidWitness {
    /// The text does not have two parts.
    #[error(
        "must be the witness's public key, a space and its address, such as 'w.example+7f21b3c4+BA… \
         https://w.example'"
    )]
    Form,
    /// The first part is not a key.
    #[error(
        "the first part must be a witness's Ed25519 key, <name>+<8 hexadecimal digits>+<base64>; ask the \
         witness's operator"
    )]
    Key,
    /// The second part is not an address.
    #[error("the address must be https:// or http:// and a host, without a query")]
    Address,
}

impl FromStr for Witness {
    type Err = InvalidWitness;

    fn from_str(text: &str) -> Result<Self, InvalidWitness> {
        let (key, address) = text.trim().split_once(' ').ok_or(InvalidWitness::Form)?;
        let key = key.parse().map_err(|_| InvalidWitness::Key)?;
        let prefix = address.trim().trim_end_matches('/');
        let wrong = |_| InvalidWitness::Address;
        let add_checkpoint: Uri = format!("{prefix}/add-checkpoint").parse().map_err(wrong)?;
        let is_address = matches!(add_checkpoint.scheme_str(), Some("https" | "http"))
            && add_checkpoint.authority().is_some_and(|it| !it.as_str().contains('@'))
            && !prefix.contains(['?', '#']);
        if is_address { Ok(Self { key, add_checkpoint }) } else { Err(InvalidWitness::Address) }
    }
}

/// All witnesses and their state.
pub(crate) struct Witnesses {
    members: Vec<Member>,
    /// None without witnesses.
    client: Option<HttpClient>,
    /// Set once the last signed checkpoint has been compared with the witnesses' memory.
    compared: OnceCell<()>,
    /// Held while witnesses are asked, so that each receives checkpoints in order.
    asking: tokio::sync::Mutex<()>,
}

struct Member {
    witness: Witness,
    state: Mutex<MemberState>,
}

#[derive(Default)]
struct MemberState {
    /// The size and time of its last cosignature since the start. It may have cosigned a larger size before
    /// that.
    cosigned: Option<(u64, Timestamp)>,
    problem: Option<String>,
    paused_until: Option<Instant>,
}

/// The state of a witness.
#[derive(Debug, Clone)]
pub(crate) struct WitnessStatus {
    pub name: String,
    /// The number of events in its last cosignature since the start of the service, and when.
    pub cosigned: Option<(u64, Timestamp)>,
    /// Why the last request failed, if it did.
    pub problem: Option<String>,
}

/// Why a witness did not cosign.
enum Failure {
    /// The witness has seen a different log under this log's name.
    Contradiction(String),
    /// Any other reason.
    Problem(String),
}

impl Witnesses {
    /// Prepares witnesses without sending a request.
    ///
    /// # Errors
    /// When there are witnesses, but the system has no certificate authorities.
    pub(crate) fn new(witnesses: Vec<Witness>) -> Result<Self, NoTrustRoots> {
        let client = match witnesses.as_slice() {
            [] => None,
            _ => Some(HttpClient::new(ANSWER_LEN_MAX, ANSWER_TIME_MAX)?),
        };
        let member = |witness| Member { witness, state: Mutex::default() };
        let members = witnesses.into_iter().map(member).collect();
        Ok(Self { members, client, compared: OnceCell::new(), asking: tokio::sync::Mutex::default() })
    }

    /// Returns the states of the witnesses, in the order of the configuration.
    #[must_use]
    pub(crate) fn statuses(&self) -> Vec<WitnessStatus> {
        let status = |member: &Member| {
            let MemberState { cosigned, problem, .. } = &*member.state();
            let name = member.witness.key.name().to_owned();
            WitnessStatus { name, cosigned: *cosigned, problem: problem.clone() }
        };
        self.members.iter().map(status).collect()
    }

    /// Compares the last signed checkpoint with the witnesses' memory, once after the start. Must be called
    /// before anything is signed.
    ///
    /// # Errors
    /// When a witness has seen a different log.
    pub(crate) async fn compare_once(&self, service: &Arc<Service>) -> Result<(), Refusal> {
        let comparing = async || self.cosign_last(service).await.map(drop);
        self.compared.get_or_try_init(comparing).await.copied()
    }

    /// Returns the last signed checkpoint with the cosignatures of all witnesses that answer. Returns none
    /// when nothing was signed yet.
    ///
    /// # Errors
    /// When a witness has seen a different log.
    pub(crate) async fn cosign_last(
        &self,
        service: &Arc<Service>,
    ) -> Result<Option<(Arc<str>, Checkpoint)>, Refusal> {
        let signer = &service.log_signer;
        let Some(client) = &self.client else { return Ok(signer.last()) };
        let _asking = self.asking.lock().await;
        if let Some(refusal) = signer.contradiction() {
            return Err(refusal);
        }
        let Some((note, checkpoint)) = signer.last() else { return Ok(None) };
        let due = self.members.iter().filter(|member| member.is_due(checkpoint.size));
        let answers = join_all(due.map(|member| member.ask(service, client, &note, &checkpoint))).await;
        let signatures = answers.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>, _>>();
        let signatures = signatures.map_err(|reason| signer.stop_signing(reason))?;
        if signatures.is_empty() {
            return Ok(signer.last());
        }
        let cosigned = Note::parse(&note).map(|mut note| {
            signatures.into_iter().for_each(|signature| note.add(signature));
            note
        });
        if let Some(cosigned) = cosigned {
            let (signer, now) = (Arc::clone(signer), service.now());
            let keep = move || signer.add_cosignatures(&checkpoint, &cosigned, now);
            match service.blocking_when_free(keep).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "could not write cosignatures to the checkpoint file")
                }
                Err(problem) => tracing::error!(detail = problem.detail, "could not store cosignatures"),
            }
        }
        Ok(service.log_signer.last())
    }
}

impl Member {
    fn state(&self) -> MutexGuard<'_, MemberState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self, size: u64) -> bool {
        let state = self.state();
        state.cosigned.is_none_or(|(cosigned, _)| cosigned < size)
            && state.paused_until.is_none_or(|until| Instant::now() >= until)
    }

    /// Requests the witness's cosignature. Returns none when the witness is unavailable.
    ///
    /// # Errors
    /// How the log contradicts what the witness has seen.
    async fn ask(
        &self,
        service: &Arc<Service>,
        client: &HttpClient,
        note: &Arc<str>,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Signature>, String> {
        let asked = self.submit(service, client, note, checkpoint).await;
        let name = self.witness.key.name();
        let mut state = self.state();
        match asked {
            Ok((time, signature)) => {
                *state = MemberState { cosigned: Some((checkpoint.size, time)), ..MemberState::default() };
                Ok(Some(signature))
            }
            Err(Failure::Problem(problem)) => {
                if state.problem.as_ref() != Some(&problem) {
                    tracing::warn!(witness = name, %problem, "witness did not cosign a checkpoint");
                }
                state.problem = Some(problem);
                state.paused_until = Some(Instant::now() + RETRY_AFTER);
                Ok(None)
            }
            Err(Failure::Contradiction(reason)) => {
                state.problem = Some(reason.clone());
                Err(format!(
                    "the witness {name} {reason}; restore the newest backup, and keep this log for \
                     investigation. If the witness is wrong, start without it"
                ))
            }
        }
    }

    async fn submit(
        &self,
        service: &Arc<Service>,
        client: &HttpClient,
        note: &Arc<str>,
        checkpoint: &Checkpoint,
    ) -> Result<(Timestamp, Signature), Failure> {
        let size = checkpoint.size;
        let mut seen = self.state().cosigned.map_or(0, |(size, _)| size);
        for _ in 0..ATTEMPTS_MAX {
            let signed = Arc::clone(note);
            let body = move |log: &dyn LogReader| submission::body(log, seen, size, &signed);
            let body = service.read_log(body).await.map_err(|problem| Failure::Problem(problem.detail))?;
            let body = body.ok_or_else(|| {
                Failure::Contradiction(format!(
                    "has seen this log with {seen} events, but only {size} were signed here: this is an \
                     older copy"
                ))
            })?;
            let request = Request::post(&self.witness.add_checkpoint)
                .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
                .body(Full::new(Bytes::from(body)));
            let request = request.map_err(|error| Failure::Problem(error.to_string()))?;
            let answer = client.send(request).await.map_err(|error| self.problem(&error))?;
            match size_seen(&answer) {
                Some(size) => seen = size,
                None => return self.cosignature(&answer, note, seen),
            }
        }
        Err(self.problem(&"it reports a different size at every attempt"))
    }

    fn cosignature(
        &self,
        answer: &Response<Bytes>,
        note: &str,
        seen: u64,
    ) -> Result<(Timestamp, Signature), Failure> {
        match answer.status() {
            StatusCode::OK => {
                let lines = std::str::from_utf8(answer.body()).ok();
                let cosigned = lines.and_then(|lines| Note::parse(&format!("{note}{lines}")));
                let cosignature = cosigned.and_then(|cosigned| self.witness.key.cosignature(&cosigned));
                cosignature.ok_or_else(|| {
                    self.problem(&"its answer is not a cosignature by its key; check the key in --witness")
                })
            }
            StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Contradiction(format!(
                "has seen different events among the first {seen} of this log"
            ))),
            StatusCode::NOT_FOUND => Err(self.problem(
                &"404: it does not know this log; ask its operator to add the key that `keyledger log-key` \
                  prints",
            )),
            StatusCode::FORBIDDEN => Err(self.problem(
                &"403: it has a different key for this log; ask its operator to use the key that `keyledger \
                  log-key` prints",
            )),
            status => Err(self.problem(&status)),
        }
    }

    fn problem(&self, reason: &dyn std::fmt::Display) -> Failure {
        Failure::Problem(format!("{}: {reason}", self.witness.add_checkpoint))
    }
}

/// Returns the size that a witness has seen, from its answer to a request with a different size.
fn size_seen(answer: &Response<Bytes>) -> Option<u64> {
    let content_type = answer.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    let is_size = answer.status() == StatusCode::CONFLICT && content_type.starts_with("text/x.tlog.size");
    let text = std::str::from_utf8(answer.body()).ok()?;
    if is_size { text.strip_suffix('\n').unwrap_or(text).parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "witness.example+3c436f90+BIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
    const LOG_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn a_witness_is_a_key_and_an_address() {
        let witness: Witness = format!("{KEY} https://witness.example/log/").parse().unwrap();
        assert_eq!(witness.key.to_string(), KEY);
        assert_eq!(witness.add_checkpoint, "https://witness.example/log/add-checkpoint");
        for (text, error) in [
            ("", InvalidWitness::Form),
            (KEY, InvalidWitness::Form),
            ("https://witness.example", InvalidWitness::Form),
            (&format!("{} https://witness.example", KEY.replace("3c", "3d")), InvalidWitness::Key),
            (&format!("{LOG_KEY} https://witness.example"), InvalidWitness::Key),
            (&format!("{KEY} witness.example"), InvalidWitness::Address),
            (&format!("{KEY} ftp://witness.example"), InvalidWitness::Address),
            (&format!("{KEY} https://u:p@witness.example"), InvalidWitness::Address),
            (&format!("{KEY} https://witness.example?log=1"), InvalidWitness::Address),
        ] {
            assert_eq!(text.parse::<Witness>(), Err(error), "{text}");
        }
    }

    #[test]
    fn only_a_conflict_in_its_own_type_has_the_size_seen() {
        let answer = |status: u16, content_type: &str, body: &'static str| {
            let answer = Response::builder().status(status).header(header::CONTENT_TYPE, content_type);
            size_seen(&answer.body(Bytes::from_static(body.as_bytes())).unwrap())
        };
        assert_eq!(answer(409, "text/x.tlog.size", "20852014\n"), Some(20_852_014));
        assert_eq!(answer(409, "text/plain", "20852014\n"), None);
        assert_eq!(answer(200, "text/x.tlog.size", "20852014\n"), None);
        assert_eq!(answer(409, "text/x.tlog.size", "many\n"), None);
    }
}
