//! Commands that the log remembers: their rows in order of time, as the table has or will have them, and an
//! index by id.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock};

use crate::log::{COMMAND_MEMORY_MILLIS, CommandId, RememberedCommand};
use crate::value::time::Timestamp;

/// Remembered commands by id, shared by the writer and all readers.
#[derive(Debug, Default)]
pub(super) struct CommandIndex {
    by_id: RwLock<HashMap<CommandId, RememberedCommand>>,
}

impl CommandIndex {
    pub(super) fn find(&self, id: &CommandId) -> Option<RememberedCommand> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    /// Replaces the contents by the commands of `rows` that are still remembered at `time`.
    pub(super) fn load(&self, rows: &CommandRows, time: Timestamp) {
        let live = rows.rows.iter().filter(|(_, command)| !is_expired(command, time));
        let by_id = live.map(|(id, command)| (*id, *command)).collect();
        *self.by_id.write().unwrap_or_else(PoisonError::into_inner) = by_id;
    }

    /// Applies the commands that a group removes and adds.
    pub(super) fn update(
        &self,
        removed: impl Iterator<Item = (CommandId, RememberedCommand)>,
        added: impl Iterator<Item = (CommandId, RememberedCommand)>,
    ) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        for (id, command) in removed {
            // The id may have been reused since.
            if by_id.get(&id).is_some_and(|known| known.first == command.first) {
                by_id.remove(&id);
            }
        }
        by_id.extend(added);
    }
}

/// Rows of the table and of pending records, oldest first.
#[derive(Debug, Default)]
pub(super) struct CommandRows {
    pub(super) rows: VecDeque<(CommandId, RememberedCommand)>,
}

impl CommandRows {
    /// The oldest rows that no longer have to be kept at `time`, at most `rows_max`.
    pub(super) fn expired(
        &self,
        time: Timestamp,
        rows_max: usize,
    ) -> impl Iterator<Item = &RememberedCommand> {
        self.rows
            .iter()
            .take(rows_max)
            .map(|(_, command)| command)
            .take_while(move |row| is_expired(row, time))
    }
}

fn is_expired(command: &RememberedCommand, time: Timestamp) -> bool {
    command.time.saturating_add_millis(COMMAND_MEMORY_MILLIS) < time
}
