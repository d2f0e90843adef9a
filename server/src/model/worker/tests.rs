//! The worker over networks made here, without its thread.

use std::sync::{Arc, Mutex};

use antiphon_core::ids::{SessionKey, ShardId};

use super::*;

/// Where answers go.
#[derive(Clone, Default)]
struct Found(Arc<Mutex<Answered>>);

#[derive(Default)]
struct Answered {
    judged: Vec<Judgement>,
    heard: Vec<Heard>,
    /// Calls have ended.
    ended: bool,
}

impl Answers for Found {
    fn judge(&self, _: SessionId, judgement: Judgement) {
        self.0.lock().unwrap().judged.push(judgement);
    }

    fn hear(&self, _: SessionId, heard: Heard) {
        self.0.lock().unwrap().heard.push(heard);
    }

    fn is_open(&self, _: SessionId) -> bool {
        !self.0.lock().unwrap().ended
    }
}

/// Counts windows in its memory; gives the loudest sample, or the window at half its level.
struct Loudest {
    window: usize,
    halves: bool,
    fails: bool,
}

impl Model for Loudest {
    fn window(&self) -> usize {
        self.window
    }

    fn memory(&self) -> Memory {
        vec![vec![0.0]]
    }

    fn run(
        &mut self,
        window: &[f32],
        memory: &mut Memory,
        out: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        if self.fails {
            return Err(ModelError::Failed("as it was told to".to_owned()));
        }
        memory[0][0] += 1.0;
        *out = if self.halves {
            window.iter().map(|it| it / 2.0).collect()
        } else {
            vec![window.iter().copied().fold(0.0, f32::max)]
        };
        Ok(())
    }
}

fn worker(models: Vec<(ModelRole, Loudest)>) -> (Worker<Found>, Found) {
    let found = Found::default();
    let boxed = |(role, model): (ModelRole, Loudest)| (role, Box::new(model) as Box<dyn Model>);
    let worker = Worker {
        models: models.into_iter().map(boxed).collect(),
        calls: BTreeMap::new(),
        answers: found.clone(),
        meters: ModelMeters::default(),
    };
    (worker, found)
}

fn session() -> SessionId {
    SessionId {
        shard: ShardId(0),
        key: SessionKey {
            index: 1,
            generation: 1,
        },
    }
}

fn sound(at: u64, samples: usize, value: i16) -> Sound {
    Sound {
        at: CallTime(at),
        pcm: (0..samples).flat_map(|_| value.to_le_bytes()).collect(),
        speech: 9,
        concealed: false,
    }
}

const fn model(window: usize, halves: bool) -> Loudest {
    Loudest {
        window,
        halves,
        fails: false,
    }
}

#[test]
fn a_speech_model_judges_each_window_up_to_its_end() {
    let (mut worker, found) = worker(vec![(ModelRole::Speech, model(512, false))]);
    for at in 0..5 {
        worker.on_sound(session(), Rate::Hz16000, &sound(at * 20_000, 320, 16_384));
    }
    // 1,600 samples are three windows of 512.
    let ends = [32_000, 64_000, 96_000];
    let judged = |at| Judgement::Speech {
        at: CallTime(at),
        probability: CERTAIN / 2,
    };
    assert_eq!(found.0.lock().unwrap().judged, ends.map(judged));
    assert_eq!(
        worker.calls[&session()].speech.memory,
        Some(vec![vec![3.0]])
    );
    // After a gap it has heard nothing.
    worker.on_sound(session(), Rate::Hz16000, &sound(9_000_000, 320, 0));
    assert_eq!(worker.calls[&session()].speech.memory, None);
}

#[test]
fn a_turn_model_hears_the_last_seconds_once_for_a_pause() {
    let (mut worker, found) = worker(vec![(ModelRole::Turn, model(1_600, false))]);
    worker.on_pause(session(), TurnId(1));
    worker.on_sound(session(), Rate::Hz48000, &sound(0, 960, 32_767));
    worker.on_pause(session(), TurnId(2));
    let judged = found.0.lock().unwrap().judged.clone();
    assert!(
        matches!(judged[..], [Judgement::Complete { turn: TurnId(2), probability }] if probability > 30_000),
        "{judged:?}"
    );
}

#[test]
fn what_is_isolated_keeps_its_place_in_time() {
    let (mut worker, found) = worker(vec![(ModelRole::Isolation, model(400, true))]);
    for at in 0..10 {
        worker.on_sound(
            session(),
            Rate::Hz16000,
            &sound(1_000 + at * 20_000, 320, 16_384),
        );
    }
    let mut next = 1_000;
    for heard in found.0.lock().unwrap().heard.drain(..) {
        let Heard::Audio {
            at, pcm, speech, ..
        } = heard
        else {
            panic!("{heard:?}");
        };
        assert_eq!((at.0, speech), (next, 9));
        assert!(
            pcm.as_chunks::<2>()
                .0
                .iter()
                .all(|it| i16::from_le_bytes(*it) == 8_192)
        );
        next += micros(pcm.len() / 2);
    }
    // 3,200 samples are eight windows, all of whole frames.
    assert_eq!(next, 201_000);
}

#[test]
fn a_failure_is_counted_and_isolation_lets_sound_through() {
    let fails = |window| Loudest {
        window,
        halves: true,
        fails: true,
    };
    let (mut worker, found) = worker(vec![
        (ModelRole::Speech, fails(320)),
        (ModelRole::Isolation, fails(320)),
    ]);
    worker.on_sound(session(), Rate::Hz16000, &sound(0, 320, 100));
    let Answered { judged, heard, .. } = std::mem::take(&mut *found.0.lock().unwrap());
    assert!(judged.is_empty());
    assert_eq!(heard, [Heard::from(sound(0, 320, 100))]);
    let label = [("role", "speech")];
    assert_eq!(worker.meters.failures.get_or_create(&label).get(), 1);
}

#[test]
fn a_full_queue_loses_sound_rather_than_its_order_and_ended_calls_are_forgotten() {
    let (jobs, queue) = sync_channel(1);
    let heard = || Heard::from(sound(0, 320, 1));
    let models = |isolates| Models {
        jobs: jobs.clone(),
        isolates,
        meters: ModelMeters::default(),
    };
    let isolating = models(true);
    for skipped in [0, 1] {
        assert_eq!(isolating.pass(session(), Rate::Hz16000, heard()), None);
        assert_eq!(isolating.meters.skipped.get(), skipped);
    }
    let judging = models(false);
    assert_eq!(
        judging.pass(session(), Rate::Hz16000, heard()),
        Some(heard())
    );
    assert_eq!(judging.meters.skipped.get(), 1);
    drop((jobs, isolating, judging));

    // What waited for a call that has ended makes none, and one that was there goes.
    let (mut worker, found) = worker(Vec::new());
    found.0.lock().unwrap().ended = true;
    worker.run(&queue);
    assert!(worker.calls.is_empty());
    found.0.lock().unwrap().ended = false;
    worker.handle(session(), Task::Sound(Rate::Hz16000, sound(0, 320, 1)));
    assert_eq!(worker.calls.len(), 1);
    found.0.lock().unwrap().ended = true;
    let (jobs, queue) = sync_channel(SWEEP_JOBS);
    for _ in 0..SWEEP_JOBS {
        let task = Task::Pause(TurnId(1));
        jobs.send(Job {
            session: session(),
            task,
        })
        .unwrap();
    }
    drop(jobs);
    worker.run(&queue);
    assert!(worker.calls.is_empty());
}
