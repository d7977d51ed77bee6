//! Backups are produced, read and imported; damaged and forged ones are refused.

use std::io;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::reader::Error;
use super::*;
use crate::domain::event::Event;
use crate::domain::key::KeyRenamedPersonal;
use crate::domain::stream::StreamId;
use crate::log::memory::MemoryLog;
use crate::log::redb::{FILE_NAME, RedbImport, RedbOptions, RedbReader};
use crate::log::{
    Append, AppendOutcome, COMMAND_MEMORY_MILLIS, CommandId, CommandKey, EventLog, LogReader, StreamHead,
};
use crate::transparency::checkpoint::Checkpoint;
use crate::transparency::checkpoint_file::SignedCheckpoint;
use crate::transparency::note::{Signer, Verifier};
use crate::transparency::tree;
use crate::value::actor::Actor;
use crate::value::id::{EventId, KeyId};
use crate::value::text::Name;
use crate::vault::{Subject, Vault};

const ID: LogId = LogId([7; 16]);
const EVENTS: u64 = 600;

fn vault() -> Arc<Vault> {
    Arc::new(Vault::in_memory().unwrap())
}

/// A log of commands with two events each, all with an id.
fn log() -> Arc<dyn LogReader> {
    let mut log = MemoryLog::new(ID, vault());
    for n in 0..EVENTS / 2 {
        let number = u128::from(n);
        let renamed =
            |text: &str| Event::KeyRenamed((), KeyRenamedPersonal { name: Some(Name::new(text).unwrap()) });
        let append = Append {
            stream: StreamId::Key(KeyId::from_u128(number)),
            expected: StreamHead::ABSENT,
            time: Timestamp::from_millis(COMMAND_MEMORY_MILLIS + i64::try_from(n).unwrap()),
            subject: Subject::Installation,
            organization_id: None,
            actor: Actor::system(),
            request_id: None,
            causation: None,
            events: vec![
                (EventId::from_u128(number * 2), renamed(&format!("key {n}"))),
                (EventId::from_u128(number * 2 + 1), renamed("renamed")),
            ],
            command: Some(CommandKey { id: CommandId(number.to_be_bytes()), fingerprint: [1; 16] }),
        };
        let outcomes = log.append(vec![append]).unwrap();
        assert!(matches!(outcomes.as_slice(), [AppendOutcome::Appended { .. }]));
    }
    log.reader()
}

fn signer() -> Signer {
    Signer::generate("example.com/log".parse().unwrap(), &mut rand::rngs::SysRng).unwrap()
}

fn signed(log: &dyn LogReader, size: u64, signer: &Signer) -> SignedCheckpoint {
    let origin = signer.verifier().name().to_owned();
    let checkpoint = Checkpoint { origin, size, root: tree::root(log, size).unwrap() };
    SignedCheckpoint { time: Timestamp::from_millis(1), checkpoint: checkpoint.sign(signer) }
}

fn header(log: &dyn LogReader, head: u64, signer: &Signer) -> Header {
    Header {
        log_id: log.log_id(),
        head: Position::new(head),
        root: tree::root(log, head).unwrap(),
        time: Timestamp::from_millis(5),
        checkpoint: Some(signed(log, head, signer).checkpoint),
        log_key: Some(signer.verifier().to_string()),
    }
}

fn backup(log: &Arc<dyn LogReader>, header: Header, checkpoints: Vec<SignedCheckpoint>) -> Vec<u8> {
    signed_backup(log, header, checkpoints, None)
}

fn signed_backup(
    log: &Arc<dyn LogReader>,
    header: Header,
    checkpoints: Vec<SignedCheckpoint>,
    sign: Option<source::Sign>,
) -> Vec<u8> {
    let files = vec![(KeptFile::LogKey, Zeroizing::new(b"a key".to_vec()))];
    let checkpoints = Box::new(checkpoints.into_iter().map(Ok));
    let mut source = Source::new(Arc::clone(log), header, checkpoints, files, sign);
    let mut bytes = Vec::new();
    while let Some(chunk) = source.next_chunk().unwrap() {
        bytes.extend(chunk);
    }
    bytes
}

/// A backup of the whole log, with three checkpoints and one that is larger than the log.
fn whole() -> (Arc<dyn LogReader>, Vec<u8>) {
    let (log, signer) = (log(), signer());
    let mut checkpoints: Vec<_> =
        [0, 257, EVENTS].into_iter().map(|size| signed(log.as_ref(), size, &signer)).collect();
    let origin = signer.verifier().name().to_owned();
    let beyond = Checkpoint { origin, size: EVENTS + 1, root: [0; 32] }.sign(&signer);
    checkpoints.push(SignedCheckpoint { time: Timestamp::from_millis(1), checkpoint: beyond });
    let bytes = backup(&log, header(log.as_ref(), EVENTS, &signer), checkpoints);
    (log, bytes)
}

fn read(bytes: &[u8]) -> Result<Vec<Part>, Error> {
    let mut reader = Reader::open(bytes)?;
    let mut parts = Vec::new();
    while let Some(part) = reader.next_part()? {
        parts.push(part);
    }
    Ok(parts)
}

fn import(path: &std::path::Path, parts: &[Part]) -> Result<(), crate::log::Error> {
    let mut import = RedbImport::create(path, RedbOptions::default(), ID)?;
    for part in parts {
        match part {
            Part::Entries(entries) => import.append(entries)?,
            Part::Commands(commands) => import.remember(commands)?,
            Part::Checkpoints(_) | Part::File(..) => {}
        }
    }
    import.finish().map(drop)
}

#[test]
fn a_backup_restores_the_whole_log() {
    let (log, bytes) = whole();
    let parts = read(&bytes).unwrap();
    let sizes: Vec<u64> = parts
        .iter()
        .flat_map(|part| match part {
            Part::Checkpoints(checkpoints) => checkpoints.iter().map(|(_, it)| it.size).collect(),
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(sizes, [0, 257, EVENTS]);
    assert!(
        matches!(parts.last(), Some(Part::File(KeptFile::LogKey, bytes)) if bytes.as_slice() == b"a key")
    );

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    import(&path, &parts).unwrap();
    let restored = RedbReader::open_read_only(&path, RedbOptions::default(), vault()).unwrap();
    assert_eq!(restored.log_id(), ID);
    let all = |log: &dyn LogReader| log.read_entries(Position::START, usize::MAX).unwrap();
    assert_eq!(all(&restored), all(log.as_ref()));
    assert_eq!(restored.frontier().unwrap(), log.frontier().unwrap());
    let commands = |log: &dyn LogReader| log.commands(Position::START, usize::MAX).unwrap();
    assert_eq!(commands(&restored), commands(log.as_ref()));
    assert_eq!(restored.verify(|_, _| {}).unwrap().finding, None);
    let error = RedbImport::create(&path, RedbOptions::default(), ID).unwrap_err().to_string();
    assert!(error.contains("already exists"), "{error}");
}

#[test]
fn a_backup_ends_where_its_header_says() {
    let (log, signer) = (log(), signer());
    for head in [0, 1, 256, 257, 512] {
        let bytes = backup(&log, header(log.as_ref(), head, &signer), Vec::new());
        let mut events = 0;
        for part in read(&bytes).unwrap() {
            match part {
                Part::Entries(entries) => events += entries.len() as u64,
                Part::Commands(commands) => assert!(commands.iter().all(|(_, it)| it.last.get() <= head)),
                Part::Checkpoints(_) | Part::File(..) => {}
            }
        }
        assert_eq!(events, head);
    }
}

/// Reads a whole backup and returns whether it is signed by this key.
fn is_signed_by(bytes: &[u8], verifier: &Verifier) -> bool {
    let mut reader = Reader::open(bytes).unwrap();
    assert!(!reader.is_signed_by(verifier), "nothing is known before the end");
    while reader.next_part().unwrap().is_some() {}
    reader.is_signed_by(verifier)
}

#[test]
fn a_signature_is_by_one_key_over_one_backup() {
    let (log, ours, others) = (log(), Arc::new(signer()), Arc::new(signer()));
    let by = |signer: &Arc<Signer>| -> Option<source::Sign> {
        let signer = Arc::clone(signer);
        Some(Box::new(move |hash| signature::sign(hash, &signer)))
    };
    let head = |head| header(log.as_ref(), head, &ours);
    let bytes = signed_backup(&log, head(20), Vec::new(), by(&ours));
    assert!(is_signed_by(&bytes, ours.verifier()) && !is_signed_by(&bytes, others.verifier()));
    let unsigned = backup(&log, head(20), Vec::new());
    assert!(!is_signed_by(&unsigned, ours.verifier()));
    // Another key's signature, that of another backup, and a checkpoint are none.
    let reason = |note: String| {
        let sign: source::Sign = Box::new(move |_| note);
        match read(&signed_backup(&log, head(20), Vec::new(), Some(sign))) {
            Err(Error::Damaged { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let hash: Hash = bytes[bytes.len() - 300..].windows(32).map(|it| it.try_into().unwrap()).next().unwrap();
    for note in [
        signature::sign(&hash, &ours),
        signature::sign(&hash, &others),
        signed(log.as_ref(), 20, &ours).checkpoint,
        "x".to_owned(),
    ] {
        assert!(reason(note).contains("its signature is not one by the log's key"));
    }
}

/// The bytes of a backup that an earlier version wrote.
#[test]
fn a_backup_of_format_1_is_read() {
    let (log, signer) = (log(), signer());
    let bytes = backup(&log, header(log.as_ref(), 20, &signer), Vec::new());
    let at = bytes.windows(11).position(|it| it == b"\"format\":2,").unwrap();
    let mut old = bytes.clone();
    old[at + 9] = b'1';
    // The header's checksum, and the hash at the end with its own.
    let header_len = u32::from_be_bytes(old[18..22].try_into().unwrap()) as usize;
    let header_end = 22 + header_len;
    let sum = crc32fast::hash(&old[17..header_end]).to_be_bytes();
    old[header_end..header_end + 4].copy_from_slice(&sum);
    let end = old.len() - 41;
    let hash = crate::crypto::sha256::sha256(&old[..end]);
    old[end + 5..end + 37].copy_from_slice(&hash);
    let sum = crc32fast::hash(&old[end..end + 37]).to_be_bytes();
    old[end + 37..].copy_from_slice(&sum);
    assert_eq!(read(&old).unwrap().len(), read(&bytes).unwrap().len());
    assert!(!is_signed_by(&old, signer.verifier()));
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    let (log, signer) = (log(), Arc::new(signer()));
    let (header, checkpoints) = (header(log.as_ref(), 20, &signer), vec![signed(log.as_ref(), 10, &signer)]);
    let sign: source::Sign = Box::new(move |hash| signature::sign(hash, &signer));
    let bytes = signed_backup(&log, header, checkpoints, Some(sign));
    assert!(read(&bytes).is_ok());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        match read(&changed) {
            Err(Error::Damaged { byte, .. }) => assert!(byte <= at as u64, "{at}: {byte}"),
            other => panic!("{at}: {other:?}"),
        }
    }
    for len in 0..bytes.len() {
        assert!(matches!(read(&bytes[..len]), Err(Error::Damaged { .. })), "{len}");
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    assert!(matches!(read(&longer), Err(Error::Damaged { reason, .. }) if reason.contains("after its end")));
}

/// Valid checksums do not help a forged backup of other events, because a checkpoint attests the events.
#[test]
fn a_backup_of_another_history_is_refused() {
    let (log, signer) = (log(), signer());
    let mut other = header(log.as_ref(), 300, &signer);
    other.root = [1; 32];
    let found = |header: Header, checkpoints| match read(&backup(&log, header, checkpoints)) {
        Err(Error::Damaged { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(found(other, Vec::new()).contains("do not have the root"));
    let mut false_checkpoint = signed(log.as_ref(), 200, &signer);
    let origin = signer.verifier().name().to_owned();
    false_checkpoint.checkpoint = Checkpoint { origin, size: 200, root: [2; 32] }.sign(&signer);
    let reason = found(header(log.as_ref(), 300, &signer), vec![false_checkpoint.clone()]);
    assert!(reason.contains("up to position 200 are not those"), "{reason}");
    let mut other = header(log.as_ref(), 300, &signer);
    other.checkpoint = Some(false_checkpoint.checkpoint);
    assert!(found(other, Vec::new()).contains("up to position 200 are not those"));
    let other =
        Header { log_key: Some(self::signer().verifier().to_string()), ..header(log.as_ref(), 300, &signer) };
    assert!(found(other, Vec::new()).contains("is invalid"));
}

#[test]
fn an_impossible_log_is_not_imported() {
    let (_, bytes) = whole();
    let refused = |change: &dyn Fn(&mut Vec<reader::Entry>)| {
        let mut entries = Vec::new();
        for part in read(&bytes).unwrap() {
            if let Part::Entries(more) = part {
                entries.extend(more);
            }
        }
        change(&mut entries);
        let directory = tempfile::tempdir().unwrap();
        match import(&directory.path().join(FILE_NAME), &[Part::Entries(entries)]) {
            Err(crate::log::Error::Damaged { position, reason, .. }) => (position.get(), reason),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&|entries| entries.swap(3, 4)).0, 4);
    assert_eq!(refused(&|entries| drop(entries.remove(9))).0, 10);
    let (position, reason) = refused(&|entries| entries[5].record.time = Timestamp::from_millis(0));
    assert!(position == 6 && reason.contains("its time"), "{reason}");
    for version in [0, 1, 3] {
        let (position, reason) =
            refused(&|entries| entries[5].record.version = crate::value::position::Version::new(version));
        assert!(position == 6 && reason.contains("its version"), "{version}: {reason}");
    }
}

#[test]
fn a_source_that_cannot_be_read_returns_an_error() {
    let (log, signer) = (log(), signer());
    let mut beyond = header(log.as_ref(), EVENTS, &signer);
    beyond.head = Position::new(EVENTS + 1);
    let checkpoints = Box::new([Err(io::Error::other("no disk"))].into_iter());
    let mut source = Source::new(Arc::clone(&log), beyond.clone(), checkpoints, Vec::new(), None);
    assert!(source.next_chunk().unwrap().is_some());
    assert!(source.next_chunk().unwrap_err().to_string().contains("no disk"));
    let mut source = Source::new(log, beyond, Box::new(std::iter::empty()), Vec::new(), None);
    let error = loop {
        match source.next_chunk() {
            Ok(chunk) => assert!(chunk.is_some()),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("ends at position 600"), "{error}");
}
