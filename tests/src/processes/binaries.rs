//! Paths of the binaries under test.

use std::env;
use std::path::{Path, PathBuf};

/// The path of a built binary, in `KEYLEDGER_BIN_DIR` if that is set, else in the workspace's target
/// directory.
///
/// # Panics
/// When the binary is missing. The message says how to build it.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    candidates().into_iter().map(|directory| directory.join(name)).find(|path| path.is_file()).unwrap_or_else(
        || {
            panic!(
                "the binary {name} is missing: run `make build`, or set KEYLEDGER_BIN_DIR to its directory"
            )
        },
    )
}

/// The root of the workspace.
///
/// # Panics
/// Never, as this crate is a member of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is inside the workspace").to_path_buf()
}

fn candidates() -> Vec<PathBuf> {
    if let Some(directory) = env::var_os("KEYLEDGER_BIN_DIR") {
        return vec![directory.into()];
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    vec![target.join("release"), target.join("debug")]
}
