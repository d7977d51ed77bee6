//! Writing an answer: problems, objects, event streams.

pub mod event_stream;
pub mod problem;
pub mod reply;
pub mod view;
