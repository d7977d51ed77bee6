//! Recovery: reopens the log after an error.

use super::{State, Waiting};
use crate::domain::aggregate::Command;
use crate::ledger::{Counters, Error};
use crate::log;

/// Records read at a time when the log is ahead of the observers.
const CATCH_UP_LEN: usize = 1_024;

impl State {
    /// Answers the callers, reopens the log, and passes to the observers the records that are there after
    /// all.
    pub(super) fn append_failed(
        &mut self,
        error: &log::Error,
        commands: impl Iterator<Item = Waiting>,
    ) -> Result<(), log::Error> {
        self.directory.clear();
        let unknown = matches!(error, log::Error::OutcomeUnknown(_));
        if unknown {
            Counters::add(&self.counters.unknown_outcomes, 1);
        }
        tracing::error!(%error, "the log failed to commit a group of commands; reopening it");
        let mut erasures = Vec::new();
        for Waiting { request, reply, .. } in commands {
            if let Command::Erasure(..) = request.command {
                erasures.push(request.command);
            }
            let _ = reply.send(Err(if unknown {
                Error::OutcomeUnknown(error.to_string())
            } else {
                Error::Log(log::Error::Unavailable(match error {
                    log::Error::Unavailable(reason) => reason.clone(),
                    other => other.to_string(),
                }))
            }));
        }
        self.log.recover()?;
        for command in &erasures {
            let records = self.reader.read_stream(&command.stream())?.records;
            self.forget_erased(command, &records);
        }
        self.catch_up()
    }

    /// Runs a checkpoint of the log. The inner error is the reason of a failure after which the log works
    /// again.
    pub(super) fn checkpoint(&mut self) -> Result<Result<(), String>, log::Error> {
        let Err(error) = self.log.checkpoint_journal() else { return Ok(Ok(())) };
        tracing::error!(%error, "the log failed to take a checkpoint; reopening it");
        self.log.recover()?;
        self.catch_up()?;
        Ok(Err(error.to_string()))
    }

    /// Passes to the observers the records that the log has and they have not seen.
    fn catch_up(&mut self) -> Result<(), log::Error> {
        let head = self.reader.head()?;
        let mut seen = *self.head.borrow();
        while seen < head {
            let records = self.reader.read(seen, CATCH_UP_LEN)?;
            let Some(last) = records.last() else { break };
            seen = last.position;
            self.publish(&records);
        }
        tracing::warn!(%head, "the log works again");
        Ok(())
    }
}
