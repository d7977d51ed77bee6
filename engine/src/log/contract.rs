//! Tests of the promises that every log keeps.
