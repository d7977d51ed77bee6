//! Keeps the secrets in a program's memory out of files and of other programs' sight.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Makes the process leave no core file, and keeps programs of the same user from reading its memory and its
/// environment through `/proc` or a debugger; the system's administrator still can. Executing a program
/// undoes the latter.
///
/// Both calls give rights up, so they fail only in a sandbox that forbids them. Such a sandbox is not a
/// reason to refuse to run.
pub fn keep_memory_private() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
