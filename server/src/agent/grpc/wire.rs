//! Messages of the protocol to what they mean, and back.

use antiphon_core::audio::Rate;
use antiphon_core::limits::DIALLED_KEYS_MAX;
use antiphon_core::voice::message::{
    AgentAsk, AgentPlan, CallTime, Eagerness, EndReason, Heard, MarkId, PlayoutState, TurnEnd,
    TurnId, UtteranceId, VoiceEvent,
};
use antiphon_core::wire::payload::event::event_of;
use tonic::Status;

use super::proto::from_agent::What as Asked;
use super::proto::to_agent::What;
use super::proto::{self, FromAgent, ToAgent, barge, playout, speech, turn};
use crate::agent::hint::hint;
use crate::limits::{HINT_TEXT_BYTES_MAX, SAY_BYTES_MAX};

/// What a program wants.
#[derive(Debug)]
pub(super) enum Wish {
    /// To be passed on, in this order.
    Asks(Vec<AgentAsk>),
    /// The end of the call.
    HangUp,
    /// What cannot be done, and why. The call goes on.
    Refused(&'static str, &'static str),
    /// Nothing that this server knows.
    Nothing,
}

/// What a message asks for.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the rule that it breaks.
pub(super) fn wish(message: FromAgent) -> Result<Wish, Status> {
    let ask = match message.what {
        None => return Ok(Wish::Nothing),
        Some(Asked::Join(_)) => {
            return Err(Status::invalid_argument(
                "`Join` is the first message of a stream",
            ));
        }
        Some(Asked::Say(say)) => return Ok(Wish::Asks(say_asks(&say)?)),
        Some(Asked::HangUp(_)) => return Ok(Wish::HangUp),
        Some(Asked::Dtmf(keys)) => AgentAsk::Dtmf {
            digits: digits(&keys.digits)?,
        },
        Some(Asked::Mark(mark)) => AgentAsk::Mark {
            mark: MarkId(mark.mark),
        },
        Some(Asked::Clear(clear)) => AgentAsk::Clear {
            utterance: clear.utterance.map(UtteranceId),
        },
        Some(Asked::Hint(text)) => {
            if text.text.len() > HINT_TEXT_BYTES_MAX {
                let rule = format!("a hint has at most {HINT_TEXT_BYTES_MAX} bytes of text");
                return Err(Status::invalid_argument(rule));
            }
            if text.complete.is_some_and(|it| !(0.0..=1.0).contains(&it)) {
                return Ok(Wish::Refused("hint", "`complete` is from 0 to 1"));
            }
            AgentAsk::Hint(hint(
                TurnId(text.turn),
                &text.text,
                text.complete,
                text.backchannel,
            ))
        }
        Some(Asked::Configure(change)) => {
            match proto::Eagerness::try_from(change.eagerness).map(eagerness) {
                Ok(Some(eagerness)) => AgentAsk::Eagerness(eagerness),
                Ok(None) => return Ok(Wish::Nothing),
                Err(_) => {
                    return Ok(Wish::Refused("configure", "there is no such eagerness"));
                }
            }
        }
    };
    Ok(Wish::Asks(vec![ask]))
}

/// The keys of a text, in capitals.
fn digits(text: &str) -> Result<String, Status> {
    let digits = text.to_ascii_uppercase();
    let are_keys = digits.chars().all(|digit| event_of(digit).is_some());
    if !are_keys || !(1..=DIALLED_KEYS_MAX).contains(&digits.len()) {
        let rule = format!("`SendDtmf.digits` is 1 to {DIALLED_KEYS_MAX} of 0-9 * # A-D");
        return Err(Status::invalid_argument(rule));
    }
    Ok(digits)
}

/// Cut to what one command may carry.
fn say_asks(say: &proto::Say) -> Result<Vec<AgentAsk>, Status> {
    // The end alone has no rate.
    let hz = match say.rate {
        0 if say.pcm.is_empty() => AgentPlan::default().rate.hz(),
        hz => hz,
    };
    let rate = Rate::from_hz(hz).ok_or_else(|| {
        Status::invalid_argument("`Say.rate` is 8000, 16000, 24000 or 48000 samples a second")
    })?;
    if !say.pcm.len().is_multiple_of(2) {
        return Err(Status::invalid_argument(
            "`Say.pcm` has half a sample: two bytes make one",
        ));
    }
    let ask = |pcm: &[u8], last| AgentAsk::Say {
        utterance: UtteranceId(say.utterance),
        pcm: pcm.to_vec(),
        rate,
        last,
        interruptible: !say.uninterruptible,
    };
    if say.pcm.is_empty() {
        return Ok(vec![ask(&[], say.last)]);
    }
    let pieces = say.pcm.chunks(SAY_BYTES_MAX);
    let count = pieces.len();
    let asks = pieces.enumerate();
    Ok(asks
        .map(|(index, piece)| ask(piece, say.last && index + 1 == count))
        .collect())
}

/// What a program is told of something heard; `None` of what the protocol has no word for. `dropped` pieces of sound
/// were lost so far.
pub(super) fn told(heard: Heard, rate: Rate, dropped: u64) -> Option<ToAgent> {
    let (at, what) = match heard {
        Heard::Audio {
            at,
            pcm,
            speech,
            concealed,
        } => {
            let audio = proto::Audio {
                pcm: pcm.into(),
                rate: rate.hz(),
                speech: f32::from(speech) / 255.0,
                concealed,
                dropped,
            };
            (at, What::Audio(audio))
        }
        Heard::Voice(event) => told_of_voice(event)?,
        Heard::Playout {
            at,
            utterance,
            played,
            queued,
            state,
        } => {
            let playout = proto::Playout {
                utterance: utterance.0,
                played_us: played,
                queued_us: queued,
                state: told_state(state).into(),
            };
            (at, What::Playout(playout))
        }
        Heard::Mark { at, mark, reached } => (
            at,
            What::Mark(proto::MarkReached {
                mark: mark.0,
                reached,
            }),
        ),
        Heard::Dtmf {
            at,
            digit,
            duration,
        } => (
            at,
            What::Dtmf(proto::Dtmf {
                digit: digit.into(),
                duration_us: duration,
            }),
        ),
        Heard::Overflow {
            at,
            utterance,
            dropped,
        } => {
            let overflow = proto::Overflow {
                utterance: utterance.0,
                dropped_us: dropped,
            };
            (at, What::Overflow(overflow))
        }
        Heard::KeysLeftOut { at, keys } => (at, What::Refused(keys_left_out(keys))),
        _ => return None,
    };
    Some(at_time(at, what))
}

fn keys_left_out(keys: u32) -> proto::Refused {
    proto::Refused {
        what: "dtmf".to_owned(),
        reason: format!(
            "{keys} of the keys are left out: no more than {DIALLED_KEYS_MAX} may wait"
        ),
    }
}

const fn told_state(state: PlayoutState) -> playout::State {
    match state {
        PlayoutState::Started => playout::State::Started,
        PlayoutState::Starved => playout::State::Starved,
        PlayoutState::Finished => playout::State::Finished,
        PlayoutState::Cleared => playout::State::Cleared,
        PlayoutState::Interrupted => playout::State::Interrupted,
    }
}

fn told_of_voice(event: VoiceEvent) -> Option<(CallTime, What)> {
    let speech = |kind: speech::Kind, turn: TurnId, edge: CallTime| {
        What::Speech(proto::Speech {
            kind: kind.into(),
            turn: turn.0,
            edge_us: edge.0,
        })
    };
    let barge = |kind: barge::Kind, turn: TurnId, start: CallTime| {
        What::Barge(proto::Barge {
            kind: kind.into(),
            turn: turn.0,
            start_us: start.0,
        })
    };
    let nobody = TurnId::default();
    Some(match event {
        VoiceEvent::SpeechStarted { at, turn, start } => {
            (at, speech(speech::Kind::Started, turn, start))
        }
        VoiceEvent::SpeechEnded { at, turn, end } => (at, speech(speech::Kind::Ended, turn, end)),
        VoiceEvent::EagerEnd(end) => (end.at, ended(turn::Kind::EagerEnd, end)),
        VoiceEvent::Ended(end) => (end.at, ended(turn::Kind::Ended, end)),
        VoiceEvent::Resumed { at, turn } => {
            let resumed = proto::Turn {
                kind: turn::Kind::Resumed.into(),
                turn: turn.0,
                ..proto::Turn::default()
            };
            (at, What::Turn(resumed))
        }
        VoiceEvent::BargeCandidate { at, start } => {
            (at, barge(barge::Kind::Candidate, nobody, start))
        }
        VoiceEvent::BargeIn { at, start, turn } => (at, barge(barge::Kind::Confirmed, turn, start)),
        VoiceEvent::Backchannel { at, start } => {
            (at, barge(barge::Kind::Backchannel, nobody, start))
        }
        VoiceEvent::FalseInterruption { at } => (at, barge(barge::Kind::FalseAlarm, nobody, at)),
        VoiceEvent::Idle { at } => (at, What::Idle(proto::Idle {})),
        _ => return None,
    })
}

fn ended(kind: turn::Kind, end: TurnEnd) -> What {
    let reason = match end.reason {
        EndReason::Evidence => turn::Reason::Evidence,
        EndReason::Silence => turn::Reason::Silence,
        EndReason::TooLong => turn::Reason::TooLong,
    };
    What::Turn(proto::Turn {
        kind: kind.into(),
        turn: end.turn.0,
        probability: f32::from(end.probability) / 32_767.0,
        speech_start_us: end.start.0,
        speech_end_us: end.end.0,
        reason: reason.into(),
    })
}

/// A message of this time.
pub(super) const fn at_time(at: CallTime, what: What) -> ToAgent {
    ToAgent {
        at_us: at.0,
        what: Some(what),
    }
}

/// The plan of a program that wants to hear so.
///
/// # Errors
/// What is allowed.
pub(super) fn plan(hearing: Option<proto::Hearing>) -> Result<AgentPlan, String> {
    let hearing = hearing.unwrap_or_default();
    let default = AgentPlan::default();
    let rate = match hearing.rate {
        0 => default.rate,
        hz => {
            Rate::from_hz(hz).ok_or("the rate is 8000, 16000, 24000 or 48000 samples a second")?
        }
    };
    let batch_millis = match hearing.batch_ms {
        0 => default.batch_millis,
        millis @ 20..=100 if millis.is_multiple_of(10) => millis as u8,
        _ => return Err("batches have 20 to 100 ms, a multiple of 10".to_owned()),
    };
    Ok(AgentPlan {
        rate,
        batch_millis,
        denoise: hearing.denoise,
        ..default
    })
}

/// How a call of this plan sounds.
pub(super) fn hearing(plan: AgentPlan) -> proto::Hearing {
    proto::Hearing {
        rate: plan.rate.hz(),
        batch_ms: plan.batch_millis.into(),
        denoise: plan.denoise,
    }
}

pub(super) const fn eagerness(wanted: proto::Eagerness) -> Option<Eagerness> {
    match wanted {
        proto::Eagerness::Unspecified => None,
        proto::Eagerness::Eager => Some(Eagerness::Eager),
        proto::Eagerness::Balanced => Some(Eagerness::Balanced),
        proto::Eagerness::Patient => Some(Eagerness::Patient),
    }
}

pub(super) const fn said_eagerness(eagerness: Eagerness) -> proto::Eagerness {
    match eagerness {
        Eagerness::Eager => proto::Eagerness::Eager,
        Eagerness::Balanced => proto::Eagerness::Balanced,
        Eagerness::Patient => proto::Eagerness::Patient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(pcm: usize, rate: u32, last: bool) -> FromAgent {
        let say = proto::Say {
            utterance: 3,
            pcm: vec![7; pcm].into(),
            rate,
            last,
            uninterruptible: true,
        };
        FromAgent {
            what: Some(Asked::Say(say)),
        }
    }

    #[test]
    fn a_long_burst_is_cut_and_only_its_end_is_last() {
        let Ok(Wish::Asks(asks)) = wish(say(2 * SAY_BYTES_MAX + 2, 24_000, true)) else {
            panic!("it can be said");
        };
        let cut: Vec<(usize, bool)> = asks
            .iter()
            .map(|ask| match ask {
                AgentAsk::Say {
                    pcm,
                    last,
                    interruptible: false,
                    rate: Rate::Hz24000,
                    utterance: UtteranceId(3),
                } => (pcm.len(), *last),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            cut,
            [(SAY_BYTES_MAX, false), (SAY_BYTES_MAX, false), (2, true)]
        );
        let end = wish(say(0, 8_000, true)).expect("an empty piece ends an utterance");
        assert!(matches!(end, Wish::Asks(asks) if asks.len() == 1));
    }

    #[test]
    fn an_end_without_sound_needs_no_rate() {
        let end = wish(say(0, 0, true)).expect("an empty piece ends an utterance");
        assert!(matches!(end, Wish::Asks(asks) if asks.len() == 1));
        wish(say(2, 0, true)).expect_err("sound has a rate");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_costs_no_call() {
        let hint = |complete| {
            Asked::Hint(proto::TranscriptHint {
                complete: Some(complete),
                ..proto::TranscriptHint::default()
            })
        };
        let configure = |eagerness| Asked::Configure(proto::Configure { eagerness });
        let refused = |what| match wish(FromAgent { what: Some(what) }) {
            Ok(Wish::Refused(what, reason)) => Some((what, reason)),
            Ok(_) => None,
            Err(status) => panic!("{status:?}"),
        };
        for wrong in [f32::NAN, -0.01, 1.01, f32::INFINITY] {
            let (what, reason) = refused(hint(wrong)).expect("refused");
            assert_eq!((what, reason), ("hint", "`complete` is from 0 to 1"));
        }
        assert_eq!(refused(configure(4)).map(|it| it.0), Some("configure"));
        for right in [hint(0.0), hint(1.0), configure(0), configure(3)] {
            assert_eq!(refused(right), None);
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_the_rule() {
        let long = proto::TranscriptHint {
            text: "a".repeat(HINT_TEXT_BYTES_MAX + 1),
            ..proto::TranscriptHint::default()
        };
        let join = proto::Join::default();
        for (message, rule) in [
            (say(3, 16_000, false), "half a sample"),
            (say(2, 44_100, false), "8000, 16000, 24000 or 48000"),
            (
                FromAgent {
                    what: Some(Asked::Hint(long)),
                },
                "at most",
            ),
            (
                FromAgent {
                    what: Some(Asked::Join(join)),
                },
                "first message",
            ),
        ] {
            let status = wish(message).expect_err("refused");
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains(rule), "{status:?}");
        }
        assert!(matches!(wish(FromAgent { what: None }), Ok(Wish::Nothing)));
        let dial = |digits: &str| {
            let digits = digits.to_owned();
            let dtmf = Asked::Dtmf(proto::SendDtmf { digits });
            wish(FromAgent { what: Some(dtmf) })
        };
        let Ok(Wish::Asks(asks)) = dial("19*#ad") else {
            panic!("they are keys")
        };
        let digits = "19*#AD".to_owned();
        assert_eq!(asks, [AgentAsk::Dtmf { digits }]);
        for none in ["", "e", "1 2", "+", "\u{661}", &"1".repeat(65)] {
            let status = dial(none).expect_err(none);
            assert!(status.message().contains("0-9 * # A-D"), "{status:?}");
        }
    }

    #[test]
    fn a_plan_is_what_the_core_can_do() {
        let wanted = |rate, batch_ms| {
            plan(Some(proto::Hearing {
                rate,
                batch_ms,
                denoise: true,
            }))
        };
        let plan_of = wanted(48_000, 100).expect("allowed");
        assert_eq!(
            (plan_of.rate, plan_of.batch_millis, plan_of.denoise),
            (Rate::Hz48000, 100, true)
        );
        assert_eq!(plan(None), Ok(AgentPlan::default()));
        for (rate, batch) in [
            (44_100, 20),
            (16_000, 10),
            (16_000, 25),
            (16_000, 110),
            (16_000, u32::MAX),
        ] {
            assert!(wanted(rate, batch).is_err(), "{rate} {batch}");
        }
        assert_eq!(
            hearing(plan_of),
            proto::Hearing {
                rate: 48_000,
                batch_ms: 100,
                denoise: true
            }
        );
    }
}
