//! Writing an answer: problems, objects, event streams.

pub(crate) mod event_stream;
pub(crate) mod problem;
pub(crate) mod reply;
pub(crate) mod view;
