//! Rates: what arrives when, told to the sender so that it can find the path's capacity.

mod feedback;

pub use feedback::{FeedbackRecorder, FeedbackReport};
