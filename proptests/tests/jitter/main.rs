//! The jitter buffer over named paths: what it must never do, and what it does beside buffers of one delay.

mod board;
mod properties;
mod run;
mod traces;
