//! The thread that runs networks, and the bounded queue to it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use antiphon_core::audio::{Rate, Resampler};
use antiphon_core::ids::SessionId;
use antiphon_core::voice::features::CERTAIN;
use antiphon_core::voice::message::{CallTime, Heard, Judgement, TurnId, VoiceEvent};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tracing::warn;

use super::stream::{Stream, Windows, micros};
use super::{HZ, Memory, Model, ModelChoice, ModelError, ModelRole, OnnxModel};
use crate::limits::MODEL_JOBS_MAX;

/// Samples of a frame at 16 kHz.
const FRAME: usize = HZ / 100;
/// Calls that have ended are forgotten after so many jobs, or after this long without one.
const SWEEP_JOBS: usize = 1_024;
const SWEEP_IDLE: Duration = Duration::from_secs(1);

/// What networks count.
#[derive(Clone, Debug, Default)]
pub struct ModelMeters {
    runs: Family<[(&'static str, &'static str); 1], Counter>,
    failures: Family<[(&'static str, &'static str); 1], Counter>,
    skipped: Counter,
}

impl ModelMeters {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Windows that a network ran";
        registry.register("model_runs", help, self.runs.clone());
        let help = "Windows that a network failed on";
        registry.register("model_failures", help, self.failures.clone());
        let help = "Pieces of sound and pauses that no network saw, as they were too slow";
        registry.register("model_skipped", help, self.skipped.clone());
    }
}

/// Where what networks find goes. From their thread; must not wait.
pub(super) trait Answers: Send + 'static {
    /// An input for the call.
    fn judge(&self, session: SessionId, judgement: Judgement);

    /// Sound for the program.
    fn hear(&self, session: SessionId, heard: Heard);

    /// Whether the call goes on.
    fn is_open(&self, session: SessionId) -> bool;
}

/// The way to the networks.
#[derive(Debug)]
pub struct Models {
    jobs: SyncSender<Job>,
    isolates: bool,
    meters: ModelMeters,
}

#[derive(Debug)]
struct Job {
    session: SessionId,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Sound(Rate, Sound),
    Pause(TurnId),
}

#[derive(Debug)]
struct Sound {
    at: CallTime,
    pcm: Vec<u8>,
    speech: u8,
    concealed: bool,
}

impl From<Sound> for Heard {
    fn from(sound: Sound) -> Self {
        Self::Audio {
            at: sound.at,
            pcm: sound.pcm,
            speech: sound.speech,
            concealed: sound.concealed,
        }
    }
}

impl Models {
    /// Loads networks, and starts their thread.
    ///
    /// # Errors
    /// [`ModelError`], naming what to change.
    pub(super) fn start(
        library: &Path,
        choices: &[ModelChoice],
        answers: impl Answers,
        meters: ModelMeters,
    ) -> Result<Self, ModelError> {
        let environment = OnnxModel::runtime(library)?;
        let mut models: BTreeMap<ModelRole, Box<dyn Model>> = BTreeMap::new();
        for choice in choices {
            let model = OnnxModel::load(&environment, choice)?;
            models.insert(choice.role, Box::new(model));
        }
        Self::spawn(models, answers, meters).map_err(|error| ModelError::Failed(error.to_string()))
    }

    fn spawn(
        models: BTreeMap<ModelRole, Box<dyn Model>>,
        answers: impl Answers,
        meters: ModelMeters,
    ) -> io::Result<Self> {
        let isolates = models.contains_key(&ModelRole::Isolation);
        let (jobs, queue) = sync_channel(MODEL_JOBS_MAX);
        let mut worker = Worker {
            models,
            calls: BTreeMap::new(),
            answers,
            meters: meters.clone(),
        };
        thread::Builder::new()
            .name("models".to_owned())
            .spawn(move || worker.run(&queue))?;
        Ok(Self {
            jobs,
            isolates,
            meters,
        })
    }

    /// Shows what was heard to the networks; what the program is to hear of it at once. Sound that was to be isolated
    /// and finds no room is lost to it: what comes in its place would overtake what waits.
    pub fn pass(&self, session: SessionId, rate: Rate, heard: Heard) -> Option<Heard> {
        match heard {
            Heard::Audio {
                at,
                pcm,
                speech,
                concealed,
            } => {
                let now = (!self.isolates).then(|| pcm.clone());
                let sound = Sound {
                    at,
                    pcm,
                    speech,
                    concealed,
                };
                self.send(session, Task::Sound(rate, sound));
                now.map(|pcm| Heard::Audio {
                    at,
                    pcm,
                    speech,
                    concealed,
                })
            }
            Heard::Voice(VoiceEvent::SpeechEnded { turn, .. }) => {
                self.send(session, Task::Pause(turn));
                Some(heard)
            }
            other => Some(other),
        }
    }

    fn send(&self, session: SessionId, task: Task) {
        if self.jobs.try_send(Job { session, task }).is_err() {
            self.meters.skipped.inc();
        }
    }
}

struct Worker<A> {
    models: BTreeMap<ModelRole, Box<dyn Model>>,
    calls: BTreeMap<SessionId, Call>,
    answers: A,
    meters: ModelMeters,
}

struct Call {
    stream: Stream,
    speech: Lane,
    isolation: Lane,
    /// What was isolated and is no whole frame yet.
    clean: Windows,
    from_models: Resampler,
}

/// What a network that runs window after window has of a stream.
#[derive(Default)]
struct Lane {
    windows: Windows,
    memory: Option<Memory>,
}

impl<A: Answers> Worker<A> {
    fn run(&mut self, queue: &Receiver<Job>) {
        let mut jobs = 0_usize;
        loop {
            match queue.recv_timeout(SWEEP_IDLE) {
                Ok(Job { session, task }) => {
                    self.handle(session, task);
                    jobs += 1;
                }
                Err(RecvTimeoutError::Timeout) => jobs = 0,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if jobs.is_multiple_of(SWEEP_JOBS) {
                self.calls
                    .retain(|session, _| self.answers.is_open(*session));
            }
        }
    }

    fn handle(&mut self, session: SessionId, task: Task) {
        match task {
            Task::Sound(rate, sound) => self.on_sound(session, rate, &sound),
            Task::Pause(turn) => self.on_pause(session, turn),
        }
    }

    fn on_sound(&mut self, session: SessionId, rate: Rate, sound: &Sound) {
        // What waited while its call ended makes no call anew.
        if !self.calls.contains_key(&session) && !self.answers.is_open(session) {
            return;
        }
        let looks_back = self
            .models
            .get(&ModelRole::Turn)
            .map_or(0, |it| it.window());
        let call = self.calls.entry(session);
        let call = call.or_insert_with(|| Call::new(rate, looks_back));
        if call.stream.rate() != rate {
            *call = Call::new(rate, looks_back);
        }
        let (samples, gap) = call.stream.hear(sound.at.0, &sound.pcm);
        if gap {
            call.begin_again();
        }
        if let Some(model) = self.models.get_mut(&ModelRole::Speech) {
            call.speech.windows.push(&samples);
            let mut probability = None;
            call.speech
                .run(ModelRole::Speech, model.as_mut(), &self.meters, |out| {
                    probability = out.first().copied();
                });
            if let Some(probability) = probability {
                let waiting = micros(call.speech.windows.len());
                let at = CallTime(call.stream.end().saturating_sub(waiting));
                let probability = certainty(probability);
                let judgement = Judgement::Speech { at, probability };
                self.answers.judge(session, judgement);
            }
        }
        if let Some(model) = self.models.get_mut(&ModelRole::Isolation) {
            call.isolation.windows.push(&samples);
            let clean = &mut call.clean;
            call.isolation
                .run(ModelRole::Isolation, model.as_mut(), &self.meters, |out| {
                    clean.push(out);
                });
            if let Some(heard) = call.isolated(sound) {
                self.answers.hear(session, heard);
            }
        }
    }

    fn on_pause(&mut self, session: SessionId, turn: TurnId) {
        let (Some(model), Some(call)) = (
            self.models.get_mut(&ModelRole::Turn),
            self.calls.get(&session),
        ) else {
            return;
        };
        let mut lane = Lane::default();
        lane.windows.push(&call.stream.last(model.window()));
        lane.run(ModelRole::Turn, model.as_mut(), &self.meters, |out| {
            let probability = certainty(out.first().copied().unwrap_or_default());
            let judgement = Judgement::Complete { turn, probability };
            self.answers.judge(session, judgement);
        });
    }
}

impl Call {
    fn new(rate: Rate, looks_back: usize) -> Self {
        Self {
            stream: Stream::new(rate, looks_back),
            speech: Lane::default(),
            isolation: Lane::default(),
            clean: Windows::default(),
            from_models: Resampler::new(Rate::Hz16000, rate),
        }
    }

    /// After a gap nothing before it counts.
    fn begin_again(&mut self) {
        self.speech = Lane::default();
        self.isolation = Lane::default();
        self.clean.clear();
        self.from_models.reset();
    }

    /// The whole frames that were isolated up to now, in place of `sound`.
    fn isolated(&mut self, sound: &Sound) -> Option<Heard> {
        let waiting = self.clean.len() + self.isolation.windows.len();
        let begins = self.stream.end().saturating_sub(micros(waiting));
        let samples = self.clean.len() / FRAME * FRAME;
        let clean = self.clean.next(samples).filter(|it| !it.is_empty())?;
        let mut out = vec![0.0; self.from_models.output_samples(samples)];
        self.from_models.process(&clean, &mut out);
        let bytes = out.iter().flat_map(|sample| {
            let sample = (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0);
            (sample as i16).to_le_bytes()
        });
        Some(Heard::Audio {
            at: CallTime(begins),
            pcm: bytes.collect(),
            speech: sound.speech,
            concealed: sound.concealed,
        })
    }
}

impl Lane {
    /// Runs what windows are whole. One that fails gives nothing, and the log hears of the first alone.
    fn run(
        &mut self,
        role: ModelRole,
        model: &mut dyn Model,
        meters: &ModelMeters,
        mut found: impl FnMut(&[f32]),
    ) {
        let label = [("role", role.name())];
        let mut out = Vec::new();
        while let Some(window) = self.windows.next(model.window()) {
            let memory = self.memory.get_or_insert_with(|| model.memory());
            match model.run(&window, memory, &mut out) {
                Ok(()) => {
                    meters.runs.get_or_create(&label).inc();
                    found(&out);
                }
                Err(error) => {
                    if meters.failures.get_or_create(&label).inc() == 0 {
                        warn!(role = role.name(), %error, "a network failed; further failures are counted alone");
                    }
                    // Of sound that could not be isolated the program hears what there is.
                    if role == ModelRole::Isolation {
                        found(&window);
                    }
                }
            }
        }
    }
}

fn certainty(probability: f32) -> u16 {
    (probability.clamp(0.0, 1.0) * f32::from(CERTAIN)) as u16
}

#[cfg(test)]
mod tests;
