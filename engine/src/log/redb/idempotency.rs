//! The commands that the log remembers: rows in the order of time, as the file has or will have them, and by id.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock};

use crate::log::{COMMAND_MEMORY_MILLIS, CommandId, RememberedCommand};
use crate::value::time::Timestamp;

/// By id, for the writer and all readers.
#[derive(Debug, Default)]
pub(super) struct CommandIndex {
    by_id: RwLock<HashMap<CommandId, RememberedCommand>>,
}

impl CommandIndex {
    pub(super) fn find(&self, id: &CommandId) -> Option<RememberedCommand> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    /// Replaces everything by what `rows` of the file at `time` says.
    pub(super) fn fill(&self, rows: &CommandRows, time: Timestamp) {
        let live = rows.rows.iter().filter(|(_, command)| !is_old(command, time));
        let by_id = live.map(|(id, command)| (*id, *command)).collect();
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = by_id;
    }

    /// Takes over what a group adds and removes.
    pub(super) fn replace(
        &self,
        removed: impl Iterator<Item = (CommandId, RememberedCommand)>,
        added: impl Iterator<Item = (CommandId, RememberedCommand)>,
    ) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        for (id, command) in removed {
            // The id may have been used again since.
            if by_id.get(&id).is_some_and(|known| known.first == command.first) {
                by_id.remove(&id);
            }
        }
        by_id.extend(added);
    }
}

/// The rows of the file and of what is staged, oldest first.
#[derive(Debug, Default)]
pub(super) struct CommandRows {
    pub(super) rows: VecDeque<(CommandId, RememberedCommand)>,
}

impl CommandRows {
    /// The rows that need not be kept any more at `time`, at most `rows_max`.
    pub(super) fn old(&self, time: Timestamp, rows_max: usize) -> impl Iterator<Item = &RememberedCommand> {
        self.rows.iter().take(rows_max).map(|(_, command)| command).take_while(move |row| is_old(row, time))
    }
}

fn is_old(command: &RememberedCommand, time: Timestamp) -> bool {
    command.time.saturating_add_millis(COMMAND_MEMORY_MILLIS) < time
}
