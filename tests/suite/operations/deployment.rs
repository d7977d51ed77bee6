//! What comes with the source for running the service: the health check, the systemd unit and the list of
//! components.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use keyledger_tests::processes::binaries;
use keyledger_tests::processes::server::{Options, Server, free_address};
use serde_json::Value;

fn health(listen: &str) -> std::process::Output {
    Command::new(binaries::path("keyledger")).args(["health", "--listen", listen]).output().unwrap()
}

#[test]
fn the_health_check_tells_whether_the_service_answers() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("keyledger.sock").display());
    let server = Server::start_with(Options {
        arguments: vec!["--listen".into(), socket.clone()],
        ..Options::default()
    });
    let address = server.client().address().to_string();
    for listen in [address.as_str(), socket.as_str()] {
        let checked = health(listen);
        assert!(checked.status.success() && checked.stdout.is_empty(), "{listen}: {checked:?}");
    }
    let nobody = free_address().to_string();
    let checked = health(&nobody);
    let said = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(2), "{said}");
    assert!(said.starts_with(&format!("keyledger: {nobody}: ")) && said.lines().count() == 1, "{said}");
}

#[test]
fn every_setting_of_the_systemd_unit_is_known_to_systemd() {
    let unit = binaries::workspace().join("docs/deploy/keyledger.service");
    // systemd looks for the program that the unit names.
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("keyledger.service");
    let program = binaries::path("keyledger").canonicalize().unwrap();
    let text =
        fs::read_to_string(unit).unwrap().replace("/usr/local/bin/keyledger", &program.display().to_string());
    fs::write(&copy, text).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&copy).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    let about_it: Vec<_> = said.lines().filter(|line| line.contains("keyledger.service")).collect();
    assert!(about_it.is_empty(), "{said}");
    // In tenths: 0 is closed, 100 is open. A unit without any restriction has 96.
    let threshold = ["security", "--offline=true", "--threshold=20"];
    let judged = Command::new("systemd-analyze").args(threshold).arg(&copy).output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
}

/// The variables of Keyledger that a text names.
fn variables(text: &str) -> BTreeSet<&str> {
    let is_outside = |character: char| !(character.is_ascii_uppercase() || character == '_');
    text.split(is_outside).filter(|it| it.starts_with("KEYLEDGER_")).collect()
}

#[test]
fn unit_and_image_set_variables_that_exist() {
    let help = Command::new(binaries::path("keyledger")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let known = variables(&help);
    for file in ["keyledger.service", "Containerfile", "compose.yaml"] {
        let text = fs::read_to_string(binaries::workspace().join("docs/deploy").join(file)).unwrap();
        let used = variables(&text);
        assert!(!used.is_empty(), "{file} sets no variable");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} sets {unknown:?}, which `keyledger serve` does not read");
    }
}

/// The packages of `Cargo.lock` that Cargo links into the binary on this machine.
fn linked() -> BTreeSet<(String, String)> {
    let tree = Command::new("cargo")
        .args(["tree", "--package", "keyledger-api", "--edges", "normal", "--prefix", "none", "--locked"])
        .args(["--offline", "--format", "{p}"])
        .current_dir(binaries::workspace())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let package = |line: &str| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some((name.to_owned(), version.to_owned()))
    };
    text.lines().filter_map(package).collect()
}

#[test]
fn the_list_of_components_has_what_is_linked_and_nothing_else() {
    let path = binaries::path("keyledger").with_file_name("keyledger.cdx.json");
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make build`", path.display()));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    let components = document["components"].as_array().unwrap();
    let listed: BTreeSet<_> = components
        .iter()
        .chain([&document["metadata"]["component"]])
        .map(|it| (it["name"].as_str().unwrap().to_owned(), it["version"].as_str().unwrap().to_owned()))
        .collect();
    let linked = linked();
    let missing: Vec<_> = linked.difference(&listed).collect();
    let surplus: Vec<_> = listed.difference(&linked).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:?}, not linked {surplus:?}");
    for component in components {
        let is_ours = component["name"].as_str().unwrap().starts_with("keyledger-");
        assert!(
            is_ours || component["hashes"][0]["content"].as_str().is_some_and(|it| it.len() == 64),
            "{component}"
        );
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
}

/// Runs the CycloneDX project's own validator on a list of components.
fn validated(path: &Path) -> Output {
    let python = binaries::workspace().join("tests/tools/bin/python3");
    assert!(python.exists(), "{} is missing: run tests/tools-install.sh test", python.display());
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/components.py");
    Command::new(python).arg(reader).arg(path).output().unwrap()
}

#[test]
fn an_independent_validator_accepts_the_lists_of_components() {
    for binary in ["keyledger", "replay-tool"] {
        let path = binaries::path(binary).with_file_name(format!("{binary}.cdx.json"));
        let output = validated(&path);
        assert!(output.status.success(), "{binary}: {}", String::from_utf8_lossy(&output.stderr));
        // The validator does reject wrong input.
        let directory = tempfile::tempdir().unwrap();
        let damaged = directory.path().join("damaged.json");
        let text = fs::read_to_string(&path).unwrap().replace("\"library\"", "\"book\"");
        fs::write(&damaged, text).unwrap();
        assert!(!validated(&damaged).status.success(), "{binary}");
    }
}
