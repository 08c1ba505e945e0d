//! Metrics against what really happened.

mod listener;
mod sequence;
