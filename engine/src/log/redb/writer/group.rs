//! Deciding a group of appends, and encoding those that succeed.

use std::collections::HashMap;
use std::iter::repeat_n;

use redb::ReadOnlyTable;

use super::Failure;
use crate::codec;
use crate::domain::record::{Personal, Record};
use crate::log::redb::database::Shared;
use crate::log::redb::journal::frame::FrameBuilder;
use crate::log::redb::journal::pending::Segments;
use crate::log::redb::journal::segment::Segment;
use crate::log::redb::reader::head_of;
use crate::log::redb::tables::command_row;
use crate::log::{Append, AppendOutcome, CommandId, RememberedCommand, StreamHead};
use crate::value::position::{Position, Version};
use crate::value::time::Timestamp;
use crate::vault::SubjectKey;

/// Group ready to be stored, with the state of the log after it.
pub(super) struct EncodedGroup {
    pub(super) segment: Segment,
    pub(super) time: Option<Timestamp>,
    pub(super) commands: HashMap<CommandId, RememberedCommand>,
    /// The group as the journal stores it.
    pub(super) frame: FrameBuilder,
}

/// Group under construction.
pub(super) struct GroupBuilder<'a> {
    pub(super) shared: &'a Shared,
    pub(super) pending: &'a Segments,
    /// Table of streams in the database.
    pub(super) stored: ReadOnlyTable<(&'static [u8], u32), u64>,
    pub(super) group: EncodedGroup,
}

impl GroupBuilder<'_> {
    /// Decides an append. If it succeeds, its records are encoded into the group, sealed with `key`.
    pub(super) fn append(&mut self, append: Append, key: &SubjectKey) -> Result<AppendOutcome, Failure> {
        if let Some(key) = append.command {
            let known = self.group.commands.get(&key.id).copied();
            if let Some(known) = known.or_else(|| self.shared.commands.find(&key.id)) {
                return Ok(if known.fingerprint == key.fingerprint {
                    AppendOutcome::Replayed(known)
                } else {
                    AppendOutcome::CommandReused
                });
            }
        }
        let stream_key = append.stream.to_index_key();
        if append.events.is_empty() || !self.has_head(&stream_key, append.expected)? {
            return Ok(AppendOutcome::Conflict);
        }
        let time = append.time.max(self.group.time.unwrap_or(append.time));
        let first = self.position();
        let mut version = append.expected.version;
        let count = append.events.len();
        let mut records = Vec::with_capacity(count);
        let envelopes =
            repeat_n((append.stream, append.organization_id, append.actor, append.request_id), count);
        for ((id, event), envelope) in append.events.into_iter().zip(envelopes) {
            let (stream, organization_id, actor, request_id) = envelope;
            version = version.next();
            let position = self.position();
            let causation = append.causation;
            let record = Record {
                position,
                id,
                time,
                stream,
                version,
                organization_id,
                actor,
                request_id,
                causation,
                event,
                personal: Personal::Readable,
            };
            let entry = codec::encode_with(&record, Some(key)).map_err(Failure::Refused)?;
            self.group.frame.entry(&entry);
            if !self.group.segment.push(entry, &stream_key, version) {
                let reason = "its version is not the next one of its stream";
                return Err(Failure::Broken(self.shared.damaged(position, reason)));
            }
            records.push(record);
        }
        self.group.time = Some(time);
        if let Some(key) = append.command {
            let last = records.last().map_or(first, |record| record.position);
            let command = RememberedCommand { fingerprint: key.fingerprint, first, last, time };
            let row = (first.get(), command_row(key.id, &command));
            self.group.segment.commands.push(row);
            self.group.frame.command(row);
            self.group.commands.insert(key.id, command);
        }
        Ok(AppendOutcome::Appended { records, head: head_of(version) })
    }

    /// Position of the next record.
    fn position(&self) -> Position {
        Position::new(self.group.segment.frontier().size()).next()
    }

    /// Whether `expected` is the head of the stream, after the appends decided so far.
    fn has_head(&self, stream_key: &[u8], expected: StreamHead) -> Result<bool, Failure> {
        if expected != head_of(expected.version) {
            return Ok(false);
        }
        let in_group = self.group.segment.version_of(stream_key);
        if let Some(version) = in_group.or_else(|| self.pending.version_of(stream_key)) {
            return Ok(version == expected.version);
        }
        let has = |version: Version| match self.stored.get((stream_key, version.get())) {
            Ok(row) => Ok(row.is_some()),
            Err(error) => Err(Failure::Broken(self.shared.read_error(Position::START, error))),
        };
        Ok(!has(expected.version.next())? && (expected.version == Version::NONE || has(expected.version)?))
    }
}
