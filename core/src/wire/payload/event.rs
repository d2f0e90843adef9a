//! Telephone events: keys that are pressed, in the place of sound (RFC 4733 §2).

/// Bytes of one report.
pub const REPORT_BYTES: usize = 4;
/// Loudness of what we send, in -dBm0: about that of a telephone's keys.
const VOLUME: u8 = 10;
/// E, of the second byte.
const END: u8 = 0x80;

/// What is known of an event so far: packets of one event say the same timestamp, and more each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its number: 0 to 15 are keys (RFC 4733 §3.2).
    pub event: u8,
    /// It is over; said three times.
    pub end: bool,
    /// How long it lasts so far, in units of the format's clock.
    pub duration: u16,
}

impl Report {
    /// The report of a payload; of several the first, as later ones are of events that are over or are said again.
    /// `None`: it has none, or the end of one is missing.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (reports, []) = payload.as_chunks::<REPORT_BYTES>() else {
            return None;
        };
        let [event, flags, high, low] = *reports.first()?;
        Some(Self {
            event,
            end: flags & END != 0,
            duration: u16::from_be_bytes([high, low]),
        })
    }

    /// As it is sent.
    #[must_use]
    pub fn write(self) -> [u8; REPORT_BYTES] {
        let [high, low] = self.duration.to_be_bytes();
        let end = if self.end { END } else { 0 };
        [self.event, end | VOLUME, high, low]
    }

    /// Which key it is of; `None`: of none, such as the hook.
    #[must_use]
    pub fn key(self) -> Option<char> {
        KEYS.get(usize::from(self.event)).copied()
    }
}

/// By their numbers.
const KEYS: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D',
];

/// The number of a key; `None`: there is no such key.
#[must_use]
pub fn event_of(key: char) -> Option<u8> {
    let mut keys = KEYS.iter().zip(0..);
    keys.find(|(other, _)| **other == key)
        .map(|(_, event)| event)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 4733 §2.3: event, E, R, volume, duration.
    #[test]
    fn a_report_is_read_as_it_is_written() {
        let report = Report {
            event: 11,
            end: true,
            duration: 0x1234,
        };
        assert_eq!(report.write(), [11, 0x8a, 0x12, 0x34]);
        assert_eq!(Report::parse(&report.write()), Some(report));
        assert_eq!(report.key(), Some('#'));
        // R is ignored, and so is the volume.
        let odd = Report::parse(&[15, 0x7f, 0, 1]).expect("a report");
        assert_eq!((odd.key(), odd.end, odd.duration), (Some('D'), false, 1));
        assert_eq!(Report::parse(&[16, 0, 0, 1]).map(Report::key), Some(None));
        for (key, event) in KEYS.into_iter().zip(0..) {
            assert_eq!(event_of(key), Some(event));
        }
        for none in ['a', 'E', ' ', '١'] {
            assert_eq!(event_of(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_is_read_beyond_its_end(payload: Vec<u8>) {
            let whole = !payload.is_empty() && payload.len().is_multiple_of(REPORT_BYTES);
            let report = Report::parse(&payload);
            prop_assert_eq!(report.is_some(), whole);
            if let Some(report) = report {
                prop_assert_eq!(report.event, payload[0]);
            }
        }
    }
}
