//! Where a session's media stands, for a journal that does not go back to its beginning.

use serde::{Deserialize, Serialize};

use super::receiver::{Receiver, ReceiverMark};
use super::sender::SenderMark;
use super::{Media, announces};
use crate::limits::SESSION_SSRCS_MAX;
use crate::time::Timestamp;

/// What media goes on from: which packets open, who feeds each track, and the numbers of what is sent. Without caches,
/// figures, and what was asked for: those begin anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MediaMark {
    receivers: Vec<ReceiverMark>,
    tracks: Vec<TrackMark>,
    senders: Vec<Option<SenderMark>>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct TrackMark {
    source: Option<u32>,
    told: (bool, Option<Timestamp>),
}

impl Media {
    pub(crate) fn mark(&self) -> MediaMark {
        let tracks = self.tracks.iter().map(|track| TrackMark {
            source: track.source,
            told: track.told,
        });
        let senders = self.senders.iter();
        MediaMark {
            receivers: self.receivers.iter().map(Receiver::mark).collect(),
            tracks: tracks.collect(),
            senders: senders
                .map(|sender| sender.as_ref().map(|sender| sender.mark()))
                .collect(),
        }
    }

    /// Receives where another stood. It must have its keys.
    pub(crate) fn resume_receiving(&mut self, mark: &MediaMark) {
        for (track, mark) in self.tracks.iter_mut().zip(&mark.tracks) {
            (track.source, track.told) = (mark.source, mark.told);
        }
        let sections = self.plan.media.len();
        let marks = mark.receivers.iter();
        for mark in marks.filter(|mark| usize::from(mark.media) < sections) {
            match self.find_place(mark.ssrc) {
                Ok(found) => {
                    let (_, place) = self.receiver_places[found];
                    self.receivers[usize::from(place)].resume(*mark);
                }
                Err(_) if self.receivers.len() < SESSION_SSRCS_MAX => {
                    let announced = self.plan.media.iter().any(|it| announces(it, mark.ssrc));
                    self.put_receiver(Receiver::resumed(*mark, announced));
                }
                Err(_) => {}
            }
        }
    }

    /// Sends where another stood. It must have its keys, and follow whom that followed.
    pub(crate) fn resume_sending(&mut self, mark: &MediaMark) {
        for (sender, mark) in self.senders.iter_mut().zip(&mark.senders) {
            if let (Some(sender), Some(mark)) = (sender, mark) {
                sender.resume(*mark);
            }
        }
    }
}
