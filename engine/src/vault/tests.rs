//! Each subject has one key, keys survive the process, and destroyed keys are in no file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::value::text::UserId;

fn user(organization: &str, user: &str) -> Subject {
    Subject::User(organization.parse().unwrap(), UserId::new(user).unwrap())
}

fn organization(id: &str) -> Subject {
    Subject::Organization(id.parse().unwrap())
}

fn id_of(vault: &Vault, subject: &Subject) -> SubjectKeyId {
    vault.keys_for([subject]).unwrap().remove(0).id()
}

/// Bytes of a key, to search files for.
fn secret_of(vault: &Vault, subject: &Subject) -> [u8; SECRET_LEN] {
    let id = id_of(vault, subject);
    *vault.contents().keys.get(&id).unwrap().secret.bytes()
}

fn erase(vault: &Vault, subject: &Subject) -> usize {
    vault.withhold(&vault.keys_of(subject));
    vault.destroy_withheld().unwrap()
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes)
}

fn file(directory: &TempDir) -> std::path::PathBuf {
    directory.path().join(FILE_NAME)
}

#[test]
fn every_subject_has_one_key() {
    let vault = Vault::in_memory().unwrap();
    let subjects = [
        Subject::Installation,
        organization("acme"),
        user("acme", "ada"),
        user("acme", "bob"),
        organization("other"),
        user("other", "ada"),
    ];
    let keys = vault.keys_for(subjects.iter().chain(&subjects)).unwrap();
    let ids: Vec<_> = keys.iter().map(SubjectKey::id).collect();
    let (first, again) = ids.split_at(subjects.len());
    assert_eq!(first, again);
    let mut different = first.to_vec();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), subjects.len());
    assert_eq!(vault.len(), subjects.len());
    for (subject, id) in subjects.iter().zip(first) {
        assert_eq!(id_of(&vault, subject), *id);
    }
}

#[test]
fn an_organization_is_erased_with_its_users_and_a_user_alone() {
    let vault = Vault::in_memory().unwrap();
    let subjects = [organization("acme"), user("acme", "ada"), user("acme", "bob"), user("other", "ada")];
    let ids: Vec<_> = vault.keys_for(&subjects).unwrap().iter().map(SubjectKey::id).collect();
    assert_eq!(vault.keys_of(&subjects[1]), [ids[1]]);
    assert_eq!(vault.keys_of(&subjects[0]).len(), 3);
    assert_eq!(vault.keys_of(&Subject::Installation), []);
    assert_eq!(vault.keys_of(&user("acme", "unknown")), []);

    assert_eq!(erase(&vault, &subjects[1]), 1);
    assert!(vault.key(ids[1]).is_none());
    assert!([0, 2, 3].iter().all(|index| vault.key(ids[*index]).is_some()));
    assert_ne!(id_of(&vault, &subjects[1]), ids[1], "a user who returns gets another key");

    assert_eq!(erase(&vault, &subjects[0]), 3);
    assert_eq!(vault.len(), 1);
    assert!(vault.key(ids[3]).is_some());
    assert_eq!(erase(&vault, &subjects[0]), 0);
}

#[test]
fn a_recently_used_subject_is_forgotten_with_its_key() {
    let vault = Vault::in_memory().unwrap();
    let recent_len = || vault.contents().recent.lock().unwrap().len();
    let ada = user("acme", "ada");
    let id = id_of(&vault, &ada);
    assert_eq!([id_of(&vault, &ada), id_of(&vault, &ada)], [id, id]);
    assert_eq!(recent_len(), 1);
    assert_eq!(erase(&vault, &ada), 1);
    assert_eq!(recent_len(), 0);
    assert_ne!(id_of(&vault, &ada), id);

    let many: Vec<_> = (0..RECENT_LEN_MAX + 10).map(|n| user("acme", &n.to_string())).collect();
    let ids = |keys: Vec<SubjectKey>| keys.iter().map(SubjectKey::id).collect::<Vec<_>>();
    let made = ids(vault.keys_for(&many).unwrap());
    for _ in 0..2 {
        assert_eq!(ids(vault.keys_for(&many).unwrap()), made);
        assert!(recent_len() <= RECENT_LEN_MAX);
    }
}

#[test]
fn withheld_keys_can_be_released() {
    let vault = Vault::in_memory().unwrap();
    let id = id_of(&vault, &organization("acme"));
    vault.withhold(&[id]);
    assert!(vault.key(id).is_none());
    assert_eq!(vault.keys_of(&organization("acme")), []);
    vault.release();
    assert!(vault.key(id).is_some());
    assert_eq!(id_of(&vault, &organization("acme")), id);
    assert_eq!(vault.destroy_withheld().unwrap(), 0);
}

#[test]
fn keys_survive_the_process_and_destroyed_keys_are_in_no_file() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory);
    let (ada, bob) = (user("acme", "ada-the-first"), user("acme", "bob"));
    let (secret_of_ada, secret_of_bob, ids) = {
        let vault = Vault::open(&path).unwrap();
        vault.keys_for([&ada]).unwrap();
        vault.keys_for([&bob, &ada]).unwrap();
        (secret_of(&vault, &ada), secret_of(&vault, &bob), [id_of(&vault, &ada), id_of(&vault, &bob)])
    };
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(holds(&path, &secret_of_ada) && holds(&path, &secret_of_bob));
    assert!(!holds(&path, b"ada-the-first"), "the file does not name users");

    let vault = Vault::open(&path).unwrap();
    assert!(matches!(Vault::open(&path), Err(Error::Open(text)) if text.contains("in use")));
    assert_eq!([id_of(&vault, &ada), id_of(&vault, &bob)], ids);
    let old = fs::File::open(&path).unwrap();
    assert_eq!(erase(&vault, &ada), 1);
    assert!(!holds(&path, &secret_of_ada) && holds(&path, &secret_of_bob));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // The old file's blocks are zeros too.
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut { old }, &mut bytes).unwrap();
    assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == 0));
    // The vault can still be written.
    let again = id_of(&vault, &ada);
    assert_ne!(again, ids[0]);
    drop(vault);
    let vault = Vault::open(&path).unwrap();
    assert_eq!([id_of(&vault, &ada), id_of(&vault, &bob)], [again, ids[1]]);
    assert!(vault.key(ids[0]).is_none());
    let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), [FILE_NAME]);
}

#[test]
fn an_unfinished_file_left_by_a_crash_does_no_harm() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory);
    let id = id_of(&Vault::open(&path).unwrap(), &organization("acme"));
    fs::write(path.with_extension("redb.new"), b"half a file").unwrap();
    let vault = Vault::open(&path).unwrap();
    assert_eq!(id_of(&vault, &organization("acme")), id);
    assert!(!path.with_extension("redb.new").exists());
}

#[test]
fn a_read_only_vault_is_never_written() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory);
    let nothing = Vault::open_read_only(&path).unwrap();
    assert!(nothing.is_empty() && !path.exists());
    let id = id_of(&Vault::open(&path).unwrap(), &organization("acme"));
    let before = fs::read(&path).unwrap();
    let vault = Vault::open_read_only(&path).unwrap();
    assert!(vault.key(id).is_some());
    assert_eq!(id_of(&vault, &organization("acme")), id);
    assert!(matches!(vault.keys_for([&organization("new")]), Err(Error::NoNewKey(_))));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_not_a_vault_is_refused_with_a_reason() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory);
    fs::write(&path, "no vault at all, but text that is longer than a header is").unwrap();
    let Err(Error::Open(text)) = Vault::open(&path) else { panic!("not refused") };
    assert!(text.starts_with(&path.display().to_string()) && !text.contains('\n'), "{text}");
    assert!(Vault::open_read_only(&path).is_err());
}

#[test]
fn recovering_loads_what_the_file_contains() {
    let directory = TempDir::new().unwrap();
    let vault = Vault::open(&file(&directory)).unwrap();
    let id = id_of(&vault, &organization("acme"));
    vault.withhold(&[id]);
    vault.recover().unwrap();
    assert_eq!(id_of(&vault, &organization("acme")), id);
}

fn kek(seed: u8) -> Arc<Kek> {
    let text: String = (seed..seed + 32).map(|byte| format!("{byte:02x}")).collect();
    Arc::new(Kek::parse(text.as_bytes()).unwrap())
}

#[test]
fn with_a_key_encryption_key_no_secret_is_in_the_file() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory);
    let subjects = [user("acme", "ada"), organization("acme"), Subject::Installation];
    let vault = Vault::open_wrapped(&path, Some(kek(1))).unwrap();
    let secrets = subjects.each_ref().map(|subject| secret_of(&vault, subject));
    let (vault_id, tag_key) = (vault.id(), vault.contents().tag_key.clone());
    let are_kept = |vault: &Vault| {
        assert_eq!(subjects.each_ref().map(|subject| secret_of(vault, subject)), secrets);
        assert_eq!(vault.id(), vault_id);
    };
    let is_hidden = || {
        assert!(secrets.iter().chain([&*tag_key]).all(|secret| !holds(&path, secret)));
    };
    is_hidden();
    // Destroying a key rewrites the file.
    let gone = user("acme", "gone");
    let _ = secret_of(&vault, &gone);
    assert_eq!(erase(&vault, &gone), 1);
    vault.recover().unwrap();
    are_kept(&vault);
    drop(vault);
    is_hidden();
    are_kept(&Vault::open_wrapped(&path, Some(kek(1))).unwrap());
    are_kept(&Vault::open_read_only_wrapped(&path, Some(&kek(1))).unwrap());

    let refused = |opened: Result<Vault, Error>, why: &str| match opened {
        Err(Error::Open(text)) => {
            assert!(text.starts_with(&path.display().to_string()) && text.contains(why), "{text}");
        }
        _ => panic!("not refused: {why}"),
    };
    refused(Vault::open(&path), "give it with --kek-file");
    refused(Vault::open_read_only(&path), "give it with --kek-file");
    refused(Vault::open_wrapped(&path, Some(kek(2))), "not with the given one");
    // From one key to another, to none, and back; each can be repeated.
    for (from, to) in [(Some(kek(1)), Some(kek(2))), (Some(kek(2)), None), (None, Some(kek(1)))] {
        assert!(Vault::rekey(&path, from.clone(), to.clone()).unwrap());
        assert!(!Vault::rekey(&path, from, to.clone()).unwrap());
        are_kept(&Vault::open_wrapped(&path, to.clone()).unwrap());
        if to.is_some() {
            is_hidden();
        } else {
            refused(Vault::open_wrapped(&path, Some(kek(1))), "not wrapped");
        }
    }
    assert!(Vault::rekey(&path, Some(kek(3)), Some(kek(2))).is_err());
    assert!(!Vault::rekey(&directory.path().join("missing"), None, Some(kek(1))).unwrap());
}

/// Somebody who can write the file gives one subject's key to another.
#[test]
fn a_wrapped_key_belongs_to_its_holder() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory);
    let vault = Vault::open_wrapped(&path, Some(kek(1))).unwrap();
    let (acme, globex) = (id_of(&vault, &organization("acme")), id_of(&vault, &organization("globex")));
    drop(vault);
    let table = redb::TableDefinition::<&[u8; SubjectKeyId::LEN], &[u8]>::new("keys");
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        use redb::ReadableTable;
        let mut rows = transaction.open_table(table).unwrap();
        let row = rows.get(acme.as_bytes()).unwrap().unwrap().value().to_vec();
        rows.insert(globex.as_bytes(), row.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let Err(Error::Open(text)) = Vault::open_wrapped(&path, Some(kek(1))) else { panic!("not refused") };
    assert!(text.contains("was altered"), "{text}");
}
