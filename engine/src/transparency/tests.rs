//! Proofs of the tree against their definitions, and encodings against their decoders.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};

use super::checkpoint::{Checkpoint, Error as CheckpointError};
use super::checkpoint_file::{self, CheckpointFile, SignedCheckpoint};
use super::entry_check::{EntryCheck, Mismatch};
use super::note::{KeyName, Note, Signer, Verifier, WitnessKey};
use super::proof::{Error as ProofError, InclusionProof};
use super::submission;
use super::tile::{Content, TILE_WIDTH, TilePath};
use super::tree;
use crate::log::contract::first_of;
use crate::log::memory::MemoryLog;
use crate::log::merkle::{Frontier, Hash, leaf_hash, node_hash};
use crate::log::{EventLog, LogId, LogReader};
use crate::value::position::Position;
use crate::value::time::Timestamp;
use crate::vault::Vault;

/// More than one full tile of leaves, so that stored hashes are used as well.
const SIZE: u64 = 700;

fn log() -> Arc<dyn LogReader> {
    let mut log = MemoryLog::new(LogId([7; 16]), Arc::new(Vault::in_memory().unwrap()));
    log.append((0..u128::from(SIZE)).map(first_of).collect()).unwrap();
    log.reader()
}

fn signer(name: &str) -> Signer {
    Signer::generate(name.parse().unwrap(), &mut StdRng::seed_from_u64(1)).unwrap_or_else(|_| unreachable!())
}

fn roots(log: &dyn LogReader) -> Vec<Hash> {
    let mut frontier = Frontier::default();
    let mut roots = vec![frontier.root()];
    for leaf in tree::leaf_hashes(log, 0, usize::MAX).unwrap() {
        frontier.append(leaf, |_, _, _| {});
        roots.push(frontier.root());
    }
    roots
}

#[test]
fn the_edge_of_a_tree_of_any_size_is_computed_from_stored_hashes() {
    let log = log();
    let mut expected = Frontier::default();
    for (size, leaf) in (0..=SIZE).zip(tree::leaf_hashes(log.as_ref(), 0, usize::MAX).unwrap()) {
        assert_eq!(tree::frontier(log.as_ref(), size).unwrap(), expected, "{size}");
        expected.append(leaf, |_, _, _| {});
    }
    assert_eq!(tree::frontier(log.as_ref(), SIZE).unwrap(), expected);
}

#[test]
fn an_altered_entry_is_found_wherever_the_check_begins() {
    let log = log();
    let leaves = tree::leaf_hashes(log.as_ref(), 0, usize::MAX).unwrap();
    let signed =
        |size| Checkpoint { origin: "log".into(), size, root: tree::root(log.as_ref(), size).unwrap() };
    let check = |after: u64, signed: Option<Checkpoint>, altered: Option<usize>| {
        let mut check = EntryCheck::after(log.as_ref(), Position::new(after), signed).unwrap();
        let mut leaves = leaves.clone();
        if let Some(altered) = altered {
            leaves[altered][0] ^= 1;
        }
        leaves.drain(..usize::try_from(after).unwrap());
        check.append(leaves);
        check.finish(log.as_ref()).unwrap()
    };
    for after in [0, 1, 255, 256, 300, 512, SIZE - 1] {
        assert_eq!(check(after, None, None), None, "{after}");
        assert_eq!(check(after, Some(signed(600)), None), None, "{after}");
        assert_eq!(check(after, None, Some(699)), Some(Mismatch::Stored(SIZE)), "{after}");
        // After the checkpoint, only the stored hashes tell.
        assert_eq!(
            check(after, Some(signed(600)), Some(usize::try_from(after).unwrap().max(650))),
            Some(Mismatch::Stored(SIZE))
        );
        if after < 600 {
            let found = check(after, Some(signed(600)), Some(599));
            assert_eq!(found, Some(Mismatch::Signed(600)), "{after}");
        }
    }
}

/// Verification of consistency proofs, RFC 6962 §2.1.4.2 as worded in RFC 9162.
fn is_consistent(old: u64, new: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> bool {
    let mut path = proof.to_vec();
    if old.is_power_of_two() {
        path.insert(0, *old_root);
    }
    let (mut number, mut last) = (old - 1, new - 1);
    while number & 1 == 1 {
        number >>= 1;
        last >>= 1;
    }
    let mut path = path.into_iter();
    let Some(first) = path.next() else { return false };
    let (mut from, mut to) = (first, first);
    for hash in path {
        if last == 0 {
            return false;
        }
        if number & 1 == 1 || number == last {
            from = node_hash(&hash, &from);
            to = node_hash(&hash, &to);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            to = node_hash(&to, &hash);
        }
        number >>= 1;
        last >>= 1;
    }
    from == *old_root && to == *new_root && last == 0
}

#[test]
fn roots_of_all_sizes_equal_those_of_a_growing_tree() {
    let log = log();
    for (size, root) in roots(log.as_ref()).iter().enumerate() {
        assert_eq!(tree::root(log.as_ref(), size as u64).unwrap(), *root, "of size {size}");
    }
    assert!(tree::root(log.as_ref(), SIZE + 1).is_err());
}

#[test]
fn inclusion_proofs_lead_from_every_leaf_to_the_root() {
    let log = log();
    let roots = roots(log.as_ref());
    let leaves = tree::leaf_hashes(log.as_ref(), 0, usize::MAX).unwrap();
    for size in [1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 513, 699, 700] {
        for index in (0..size).step_by(1 + size as usize / 40).chain([size - 1]) {
            let mut proof = tree::inclusion_proof(log.as_ref(), index, size).unwrap().unwrap();
            let leaf = &leaves[index as usize];
            let root = |proof: &[Hash]| tree::root_of_inclusion(leaf, index, size, proof);
            assert_eq!(root(&proof), Some(roots[size as usize]), "leaf {index} of {size}");
            proof.push([0; 32]);
            assert_ne!(root(&proof), Some(roots[size as usize]));
        }
    }
    assert_eq!(tree::inclusion_proof(log.as_ref(), 5, 5).unwrap(), None);
}

#[test]
fn consistency_proofs_hold_between_any_two_sizes() {
    let log = log();
    let roots = roots(log.as_ref());
    for new in [2, 3, 8, 9, 256, 300, 513, 700_u64] {
        for old in (1..new).step_by(1 + new as usize / 60) {
            let proof = tree::consistency_proof(log.as_ref(), old, new).unwrap().unwrap();
            let (from, to) = (&roots[old as usize], &roots[new as usize]);
            assert!(is_consistent(old, new, from, to, &proof), "{old} to {new}");
            assert!(!is_consistent(old, new, to, to, &proof));
        }
    }
    let none = |old, new| tree::consistency_proof(log.as_ref(), old, new).unwrap();
    assert_eq!((none(0, 9), none(9, 9), none(10, 9)), (Some(vec![]), Some(vec![]), None));
}

#[test]
fn tile_paths_follow_the_specification() {
    let valid = [
        ("0/x001/x234/067", Content::Hashes(0), 1_234_067, TILE_WIDTH),
        ("63/000.p/1", Content::Hashes(63), 0, 1),
        ("entries/x001/000.p/255", Content::Entries, 1_000, 255),
        ("entries/999", Content::Entries, 999, TILE_WIDTH),
    ];
    for (text, content, index, width) in valid {
        let path = TilePath { content, index, width };
        assert_eq!(TilePath::parse(text), Some(path), "{text}");
        assert_eq!(path.to_string(), text);
    }
    let invalid = [
        "",
        "0",
        "0/",
        "0/1",
        "0/0001",
        "00/000",
        "64/000",
        "-1/000",
        "0/x000/000",
        "0/x1/000",
        "0/001/000",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/000.p/",
        "entry/000",
        "0/x999/x999/x999/x999/x999/x999/x999/999",
    ];
    for text in invalid {
        assert_eq!(TilePath::parse(text), None, "{text}");
    }
}

#[test]
fn tiles_have_the_hashes_and_entries_of_the_tree() {
    let log = log();
    let read = |path: &str| TilePath::parse(path).unwrap().read(log.as_ref()).unwrap();
    let leaves = tree::leaf_hashes(log.as_ref(), 0, usize::MAX).unwrap();
    assert_eq!(read("0/001"), Some(leaves[256..512].concat()));
    assert_eq!(read("0/002.p/188"), Some(leaves[512..].concat()));
    assert_eq!(read("0/002.p/3"), Some(leaves[512..515].concat()));
    let above: Vec<Hash> = leaves[..512]
        .chunks(256)
        .map(|leaves| {
            let mut frontier = Frontier::default();
            leaves.iter().for_each(|leaf| frontier.append(*leaf, |_, _, _| {}));
            frontier.root()
        })
        .collect();
    assert_eq!(read("1/000.p/2"), Some(above.concat()));
    for path in ["0/002", "0/002.p/189", "0/003.p/1", "1/000", "1/000.p/3", "2/000.p/1", "entries/003.p/1"] {
        assert_eq!(read(path), None, "{path}");
    }
    let mut bundle = read("entries/002.p/188").unwrap();
    for leaf in &leaves[512..] {
        let length = usize::from(u16::from_be_bytes([bundle[0], bundle[1]]));
        assert_eq!(leaf_hash(&bundle[2..2 + length]), *leaf);
        bundle.drain(..2 + length);
    }
    assert_eq!(bundle, [0; 0]);
}

#[test]
fn a_checkpoint_is_trusted_only_with_its_keys_signature() {
    let signer = signer("example.com/log");
    let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 42, root: [9; 32] };
    let note = checkpoint.sign(&signer);
    assert_eq!(Checkpoint::open(&note, signer.verifier()), Ok(checkpoint));
    let other = Signer::generate("example.com/log".parse().unwrap(), &mut StdRng::seed_from_u64(2));
    let other = other.unwrap_or_else(|_| unreachable!());
    let refused = |note: &str, verifier: &Verifier| Checkpoint::open(note, verifier).unwrap_err();
    assert!(matches!(refused(&note, other.verifier()), CheckpointError::Signature(_)));
    assert!(matches!(
        refused(&note.replace("\n42\n", "\n43\n"), signer.verifier()),
        CheckpointError::Signature(_)
    ));
    let elsewhere = Checkpoint { origin: "example.org/log".into(), size: 42, root: [9; 32] }.sign(&signer);
    assert!(matches!(refused(&elsewhere, signer.verifier()), CheckpointError::Origin(_)));
    for (from, to) in [("\n42\n", "\n042\n"), ("\n42\n", "\n+2\n"), ("\n\n", "\n"), ("example.com/log\n", "")]
    {
        let note = note.replacen(from, to, 1);
        assert_eq!(refused(&note, signer.verifier()), CheckpointError::Malformed, "{note}");
    }
}

#[test]
fn keys_are_parsed_as_printed() {
    let signer = signer("example.com/log");
    let again = Signer::parse(&signer.expose()).unwrap_or_else(|_| panic!("not parsed"));
    assert_eq!(again.verifier(), signer.verifier());
    let note = Note::sign("a\n".into(), &again);
    assert!(note.is_signed_by(&signer.verifier().to_string().parse().unwrap()));
    // The example of golang.org/x/mod/sumdb/note, an independent implementation.
    let verifier: Verifier =
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    let signed = format!(
        "{text}\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    );
    assert!(Note::parse(&signed).unwrap().is_signed_by(&verifier));
    assert!(!Note::parse(&signed.replace("your problem,", "my problem,")).unwrap().is_signed_by(&verifier));
    for wrong in ["", "a+b+c", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"] {
        assert!(wrong.parse::<Verifier>().is_err() && Signer::parse(wrong).is_err());
    }
    for name in ["", "a b", "a+b", "a\nb"] {
        assert!(name.parse::<KeyName>().is_err(), "{name:?}");
    }
}

#[test]
fn a_proof_file_proves_its_own_entry_and_no_other() {
    let log = log();
    let signer = signer("example.com/log");
    let root = tree::root(log.as_ref(), 600).unwrap();
    let signed = Checkpoint { origin: "example.com/log".into(), size: 600, root }.sign(&signer);
    let position = Position::new(300);
    let proof = InclusionProof::new(log.as_ref(), position, &signed, 600).unwrap().unwrap();
    let read = InclusionProof::parse(&proof.to_text()).unwrap();
    assert_eq!(read, proof);
    let entries = log.read_entries(Position::new(299), 2).unwrap();
    assert_eq!(read.verify(&entries[0], signer.verifier()), Ok(position));
    assert_eq!(read.verify(&entries[1], signer.verifier()), Err(ProofError::NotIncluded(position)));
    assert_eq!(InclusionProof::new(log.as_ref(), Position::new(601), &signed, 600).unwrap(), None);
    assert_eq!(InclusionProof::parse("nothing"), Err(ProofError::Malformed));
}

#[test]
fn the_file_keeps_checkpoints_and_drops_half_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoints.ndjson");
    assert_eq!(checkpoint_file::read(&path).unwrap(), []);
    let signed =
        |n: i64| SignedCheckpoint { time: Timestamp::from_millis(n), checkpoint: format!("{n}\n\n") };
    let (mut file, last) = CheckpointFile::open(&path).unwrap();
    assert_eq!(last, None);
    file.append(&signed(1)).unwrap();
    file.append(&signed(2)).unwrap();
    drop(file);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [whole.as_slice(), &whole[..20]].concat()).unwrap();
    let (mut file, last) = CheckpointFile::open(&path).unwrap();
    assert_eq!(last, Some(signed(2)));
    file.append(&signed(3)).unwrap();
    assert_eq!(checkpoint_file::read(&path).unwrap(), [signed(1), signed(2), signed(3)]);
    std::fs::write(&path, b"nonsense\n").unwrap();
    assert!(CheckpointFile::open(&path).is_err() && checkpoint_file::read(&path).is_err());
}

/// Signature line of a witness with this seed for a text at a time, and the text of its key.
fn cosign(name: &str, seed: u8, text: &str, seconds: u64) -> (String, String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let key = [&[4], pair.public_key().as_ref()].concat();
    let id = &Sha256::digest([name.as_bytes(), b"\n", &key].concat())[..4];
    let signature = pair.sign(format!("cosignature/v1\ntime {seconds}\n{text}").as_bytes());
    let line = STANDARD.encode([id, &seconds.to_be_bytes(), signature.as_ref()].concat());
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    (format!("\u{2014} {name} {line}\n"), format!("{name}+{id}+{}", STANDARD.encode(key)))
}

#[test]
fn a_witness_is_trusted_by_its_key_alone() {
    let checkpoint = Checkpoint { origin: "log".into(), size: 3, root: [9; 32] };
    let signed = checkpoint.sign(&signer("log"));
    let (line, key) = cosign("witness.example", 5, &checkpoint.to_text(), 1_700_000_000);
    let witness: WitnessKey = key.parse().unwrap();
    assert_eq!((witness.to_string(), witness.name()), (key.clone(), "witness.example"));
    assert!(key.parse::<Verifier>().is_err(), "a witness key is not a verifier key");
    assert!(
        signer("log").verifier().to_string().parse::<WitnessKey>().is_err(),
        "a verifier key is not a witness key"
    );
    let read = |line: &str| witness.cosignature(&Note::parse(&format!("{signed}{line}")).unwrap());
    let (time, signature) = read(&line).unwrap();
    assert_eq!(time, Timestamp::from_millis(1_700_000_000_000));
    assert!(read("").is_none());

    // It is found in a note with other signatures, and a newer one replaces it.
    let mut note = Note::parse(&signed).unwrap();
    note.add(signature);
    let newer = cosign("witness.example", 5, &checkpoint.to_text(), 1_700_000_060).0;
    let (newer_time, newer) = read(&format!("{line}{newer}")).unwrap();
    assert_eq!(newer_time, Timestamp::from_millis(1_700_000_060_000));
    note.add(newer);
    let text = note.to_string();
    assert_eq!(text.lines().count(), 6, "{text}");
    assert_eq!(Checkpoint::open(&text, signer("log").verifier()).unwrap(), checkpoint);
    assert_eq!(witness.cosignature(&Note::parse(&text).unwrap()).unwrap().0, newer_time);

    // Not with another key, name, text or time than was signed.
    let other = Checkpoint { size: 4, ..checkpoint.clone() }.to_text();
    assert!(read(&cosign("witness.example", 6, &checkpoint.to_text(), 1).0).is_none());
    assert!(read(&cosign("witness.other", 5, &checkpoint.to_text(), 1).0).is_none());
    assert!(read(&cosign("witness.example", 5, &other, 1).0).is_none());
    let mut bytes = STANDARD.decode(line.trim_end().rsplit_once(' ').unwrap().1).unwrap();
    bytes[11] ^= 1;
    assert!(read(&format!("\u{2014} witness.example {}\n", STANDARD.encode(&bytes))).is_none());
    assert!(read(&format!("\u{2014} witness.example {}\n", STANDARD.encode(&bytes[..7]))).is_none());
}

#[test]
fn a_submission_has_the_old_size_and_a_consistency_proof() {
    let log = log();
    let body = |old, size| submission::body(log.as_ref(), old, size, "CHECKPOINT\n").unwrap();
    assert_eq!(body(0, SIZE).unwrap(), "old 0\n\nCHECKPOINT\n");
    assert_eq!(body(SIZE, SIZE).unwrap(), format!("old {SIZE}\n\nCHECKPOINT\n"));
    assert_eq!(body(301, 300), None);
    let text = body(300, SIZE).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let [first, proof @ .., "", "CHECKPOINT"] = lines.as_slice() else { panic!("{text}") };
    let hashes: Vec<Hash> =
        proof.iter().map(|line| STANDARD.decode(line).unwrap().try_into().unwrap()).collect();
    let roots = roots(log.as_ref());
    assert_eq!(*first, "old 300");
    assert!(is_consistent(300, SIZE, &roots[300], &roots[SIZE as usize], &hashes));
}
