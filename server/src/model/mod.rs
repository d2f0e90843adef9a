//! Networks that judge or clean what people say to agents. They run in one thread of their own and take what time they
//! take: nothing waits for them, and what they find comes to the core as an input like others.
//!
//! ```text
//!  Heard::Audio -+-> windows ------> speech ----> Judgement::Speech ---> shard
//!                +-> last seconds -> turn ------> Judgement::Complete -> shard    (once for each pause)
//!                +-> windows ------> isolation -> Heard::Audio --------> program
//! ```

mod glue;
mod onnx;
mod stream;
mod worker;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

pub use onnx::OnnxModel;
pub use worker::{ModelMeters, Models};

/// What a network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelRole {
    /// Says how likely a window is speech.
    Speech,
    /// Says how likely a turn is complete, from the sound before a pause.
    Turn,
    /// Gives a window back with one voice in it: what the program hears.
    Isolation,
}

impl ModelRole {
    const ALL: [Self; 3] = [Self::Speech, Self::Turn, Self::Isolation];

    /// As options and metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Speech => "speech",
            Self::Turn => "turn",
            Self::Isolation => "isolation",
        }
    }

    /// Samples of a window where the network takes any number: 32 ms, 8 s and 10 ms.
    const fn usual_window(self) -> usize {
        match self {
            Self::Speech => 512,
            Self::Turn => 8 * HZ,
            Self::Isolation => HZ / 100,
        }
    }

    /// Numbers that come out for a window of so many samples.
    const fn outputs(self, window: usize) -> usize {
        match self {
            Self::Speech | Self::Turn => 1,
            Self::Isolation => window,
        }
    }
}

/// Every network hears 16 kHz.
const HZ: usize = 16_000;

/// A network, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelChoice {
    /// What for.
    pub role: ModelRole,
    /// Its file.
    pub path: PathBuf,
}

impl FromStr for ModelChoice {
    type Err = String;

    /// `ROLE=FILE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not ROLE=FILE with speech, turn or isolation as ROLE");
        let (role, path) = text.split_once('=').ok_or_else(form)?;
        let role = ModelRole::ALL.into_iter().find(|it| it.name() == role);
        if path.is_empty() {
            return Err(form());
        }
        Ok(Self {
            role: role.ok_or_else(form)?,
            path: path.into(),
        })
    }
}

impl fmt::Display for ModelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.role.name(), self.path.display())
    }
}

impl<'de> Deserialize<'de> for ModelChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a network remembers of one stream between windows; it begins as zeros.
pub type Memory = Vec<Vec<f32>>;

/// A network over sound of one channel at 16 kHz, ±1.0 nominal.
pub trait Model: Send {
    /// Samples of a window.
    fn window(&self) -> usize;

    /// The memory of a stream that has heard nothing.
    fn memory(&self) -> Memory;

    /// Runs one window of a stream; what comes out is left in `out`.
    ///
    /// # Errors
    /// When the network fails; the memory is as it was.
    fn run(
        &mut self,
        window: &[f32],
        memory: &mut Memory,
        out: &mut Vec<f32>,
    ) -> Result<(), ModelError>;
}

/// A network that cannot be used, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The library that runs networks is not there.
    #[error(
        "cannot load the ONNX Runtime library {path}: {why}; name it by `onnx_runtime` (PyPI's package onnxruntime has \
         it as capi/libonnxruntime.so.*)"
    )]
    NoRuntime {
        /// What was looked for.
        path: String,
        /// Why not.
        why: String,
    },
    /// The file is no network that can be used.
    #[error("cannot use {choice}: {why}")]
    Unusable {
        /// Which.
        choice: ModelChoice,
        /// Why not.
        why: String,
    },
    /// A run failed.
    #[error("the network failed: {0}")]
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_names_a_role_and_a_file() {
        let choice: ModelChoice = "turn=models/a=b.onnx".parse().unwrap();
        assert_eq!(choice.role, ModelRole::Turn);
        assert_eq!(choice.to_string(), "turn=models/a=b.onnx");
        for wrong in ["", "turn", "turn=", "vad=file", "=file"] {
            let error = wrong.parse::<ModelChoice>().unwrap_err();
            assert!(error.contains("speech, turn or isolation"), "{error}");
        }
    }
}
