//! Witnesses (C2SP tlog-witness): others who are shown every checkpoint with the proof that the log has only grown, remember
//! what they saw, and cosign it. Whoever asks for their cosignatures cannot be shown a log that others never see; and a log
//! that was put back to an older copy, checkpoints and all, is found out by what its witnesses remember.
//!
//! A witness that does not answer delays a checkpoint by its time limit once a minute and stops nothing.

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

/// A witness gets this long for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// An answer is a few lines; a longer one is not read.
const ANSWER_LEN_MAX: usize = 16 * 1024;
/// A witness that could not be asked is left alone for so long.
const REST: Duration = Duration::from_secs(60);
/// The first attempt may be told what the witness has seen; the second goes on from there. More would be a witness that
/// others tell of this log at the same time.
const ATTEMPTS_MAX: usize = 3;

/// A witness as the operator names it: its key and where it takes checkpoints. Its text is `<key> <URL>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Witness {
    key: WitnessKey,
    add_checkpoint: Uri,
}

/// A text that names no witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidWitness {
    /// Not two parts.
    #[error(
        "must be the witness's key, a space and its address, such as 'w.example+7f21b3c4+BA… https://w.example'"
    )]
    Form,
    /// The first is no key.
    #[error(
        "the first part must be a witness's key for Ed25519, <name>+<8 hexadecimal digits>+<base64>; ask its operator"
    )]
    Key,
    /// The second is no address.
    #[error("the address must be https:// or http://, and a host, without a query")]
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

/// All witnesses, and how they do.
pub(crate) struct Witnesses {
    members: Vec<Member>,
    /// None where nobody is to be asked.
    client: Option<HttpClient>,
    compared: OnceCell<()>,
    /// Held while they are asked, so that each sees checkpoints in their order.
    asking: tokio::sync::Mutex<()>,
}

struct Member {
    witness: Witness,
    state: Mutex<MemberState>,
}

#[derive(Default)]
struct MemberState {
    /// The size that it cosigned last, and when. It may have seen more before the service started.
    cosigned: Option<(u64, Timestamp)>,
    problem: Option<String>,
    rests_until: Option<Instant>,
}

/// How a witness does.
#[derive(Debug, Clone)]
pub(crate) struct WitnessStatus {
    /// Its name.
    pub name: String,
    /// The number of events that it vouched for last, since the service started, and when.
    pub cosigned: Option<(u64, Timestamp)>,
    /// Why the last attempt gave nothing, if it did not.
    pub problem: Option<String>,
}

/// Why there is no cosignature.
enum Failure {
    /// The witness has seen another log under this name.
    Contradiction(String),
    /// Anything else.
    Problem(String),
}

impl Witnesses {
    /// Witnesses that were not asked yet.
    ///
    /// # Errors
    /// When there are any, and the machine trusts no certificate authority.
    pub(crate) fn new(witnesses: Vec<Witness>) -> Result<Self, NoTrustRoots> {
        let client = match witnesses.as_slice() {
            [] => None,
            _ => Some(HttpClient::new(ANSWER_LEN_MAX, ANSWER_TIME_MAX)?),
        };
        let member = |witness| Member { witness, state: Mutex::default() };
        let members = witnesses.into_iter().map(member).collect();
        Ok(Self { members, client, compared: OnceCell::new(), asking: tokio::sync::Mutex::default() })
    }

    /// How they do, in the order in which they were named.
    #[must_use]
    pub(crate) fn statuses(&self) -> Vec<WitnessStatus> {
        let status = |member: &Member| {
            let MemberState { cosigned, problem, .. } = &*member.state();
            let name = member.witness.key.name().to_owned();
            WitnessStatus { name, cosigned: *cosigned, problem: problem.clone() }
        };
        self.members.iter().map(status).collect()
    }

    /// Before anything new is signed: whether what was signed last is what the witnesses have seen.
    ///
    /// # Errors
    /// When one has seen another log.
    pub(crate) async fn compare_once(&self, service: &Arc<Service>) -> Result<(), Refusal> {
        let comparing = async || self.cosign_last(service).await.map(drop);
        self.compared.get_or_try_init(comparing).await.copied()
    }

    /// The checkpoint that was signed last, with all cosignatures that can be had of it now; none when none was signed.
    ///
    /// # Errors
    /// When a witness has seen another log.
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
                    tracing::error!(%error, "cosignatures could not be kept in the checkpoint file")
                }
                Err(problem) => tracing::error!(detail = problem.detail, "cosignatures could not be kept"),
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
            && state.rests_until.is_none_or(|until| Instant::now() >= until)
    }

    /// Its cosignature; none for now when it cannot be had.
    ///
    /// # Errors
    /// Why the log is not what it has seen.
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
                    tracing::warn!(witness = name, %problem, "a checkpoint was not cosigned");
                }
                state.problem = Some(problem);
                state.rests_until = Some(Instant::now() + REST);
                Ok(None)
            }
            Err(Failure::Contradiction(reason)) => {
                state.problem = Some(reason.clone());
                Err(format!(
                    "the witness {name} {reason}; restore the newest backup, and keep this log for whoever looks into it. \
                     Should the witness be wrong, start without it"
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
                    "has seen this log with {seen} events, but no more than {size} were signed here: this is an older copy"
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
        Err(self.problem(&"it always says that it has seen another size than it just said"))
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
                    self.problem(&"what it answers is no cosignature by its key; check the key in --witness")
                })
            }
            StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Contradiction(format!(
                "has seen other events than these among the first {seen} of this log"
            ))),
            StatusCode::NOT_FOUND => Err(self.problem(
                &"404: it does not know this log; have its operator add the key that `keyledger log-key` prints",
            )),
            StatusCode::FORBIDDEN => Err(self.problem(
                &"403: it knows another key for this log; have its operator correct it to what `keyledger log-key` prints",
            )),
            status => Err(self.problem(&status)),
        }
    }

    fn problem(&self, reason: &dyn std::fmt::Display) -> Failure {
        Failure::Problem(format!("{}: {reason}", self.witness.add_checkpoint))
    }
}

/// What a witness says it has seen, when it was sent another size.
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
    fn only_a_conflict_in_its_own_type_tells_what_a_witness_has_seen() {
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
