//! `--wav`: the sound of each audio stream of a capture, in a file of its own.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use antiphon_core::audio::Rate;
use antiphon_core::replay::{Flow, MediaPacket, MediaSink, Playout, PlayoutReport};

use super::{ReplayError, unwritable};
use crate::limits::{WAV_BYTES_MAX, WAV_FILES_MAX};
use crate::secret_file::Draft;

const HEADER_BYTES: usize = 44;
/// What comes of a header's first 8 bytes on, without the samples.
const RIFF_BYTES: u32 = 36;
const SAMPLE_BYTES: u32 = 2;

/// The files under way.
pub(super) struct Wavs<'a> {
    folder: &'a Path,
    streams: BTreeMap<(Flow, u32), Stream>,
    files: usize,
    /// Bytes of samples there is room for, in all files together.
    room: u64,
    failed: Result<(), ReplayError>,
}

enum Stream {
    Playing(Box<Playing>),
    /// There are too many.
    Beyond,
}

struct Playing {
    playout: Playout,
    wav: Wav,
}

/// What was written of a stream, and what it was made of.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: PathBuf,
    /// There was no room for all of it.
    pub(super) is_cut: bool,
    pub(super) report: PlayoutReport,
}

/// By flow and source; `None`: there were too many.
pub(super) type AllWritten = BTreeMap<(Flow, u32), Option<Written>>;

impl<'a> Wavs<'a> {
    /// None yet. Makes the folder, if only it is missing.
    pub(super) fn start(folder: &'a Path) -> Result<Self, ReplayError> {
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(unwritable(folder, error));
            }
            _ => {}
        }
        Ok(Self {
            folder,
            streams: BTreeMap::new(),
            files: 0,
            room: WAV_BYTES_MAX,
            failed: Ok(()),
        })
    }

    /// Whether a file could not be written, which ends the replay.
    pub(super) const fn has_failed(&self) -> bool {
        self.failed.is_err()
    }

    /// Ends all files.
    pub(super) fn finish(mut self) -> Result<AllWritten, ReplayError> {
        self.failed?;
        let mut written = BTreeMap::new();
        for (stream, state) in self.streams {
            match state {
                Stream::Beyond => {
                    written.insert(stream, None);
                }
                Stream::Playing(playing) => {
                    let Playing { playout, mut wav } = *playing;
                    let report = playout.finish(|frame| wav.write(frame, &mut self.room));
                    let (file, is_cut) = (wav.path.clone(), wav.is_cut);
                    wav.finish().map_err(|error| unwritable(&file, error))?;
                    let one = Written {
                        file,
                        is_cut,
                        report,
                    };
                    written.insert(stream, Some(one));
                }
            }
        }
        Ok(written)
    }

    fn begin(&mut self, playout: Playout, packet: &MediaPacket<'_>) -> Result<Stream, ReplayError> {
        if self.files == WAV_FILES_MAX {
            return Ok(Stream::Beyond);
        }
        self.files += 1;
        let path = self.folder.join(name(packet));
        let wav = Wav::begin(&path, playout.rate()).map_err(|error| unwritable(&path, error))?;
        Ok(Stream::Playing(Box::new(Playing { playout, wav })))
    }
}

/// Takes streams beyond doubt alone.
impl MediaSink for Wavs<'_> {
    fn take(&mut self, packet: &MediaPacket<'_>) {
        let key = (packet.flow, packet.ssrc);
        if self.has_failed() {
            return;
        }
        if !self.streams.contains_key(&key) {
            let Some(playout) = Playout::new(packet) else {
                return;
            };
            match self.begin(playout, packet) {
                Err(error) => self.failed = Err(error),
                Ok(stream) => {
                    self.streams.insert(key, stream);
                }
            }
        }
        if let Some(Stream::Playing(playing)) = self.streams.get_mut(&key) {
            let (playout, wav) = (&mut playing.playout, &mut playing.wav);
            playout.insert(packet, |frame| wav.write(frame, &mut self.room));
            if let Err(error) = wav.check() {
                self.failed = Err(unwritable(&wav.path, error));
            }
        }
    }
}

/// Source and addresses, of which every system takes a file's name.
fn name(packet: &MediaPacket<'_>) -> String {
    let address = |socket: SocketAddr| {
        let ip = socket.ip().to_string().replace(':', "-");
        format!("{ip}_{}", socket.port())
    };
    let Flow {
        source,
        destination,
    } = packet.flow;
    let (source, destination) = (address(source), address(destination));
    format!("{:08x}_{source}_{destination}.wav", packet.ssrc)
}

/// A file of 16-bit samples of one channel.
struct Wav {
    path: PathBuf,
    out: BufWriter<Draft>,
    rate: Rate,
    samples: u32,
    is_cut: bool,
    written: io::Result<()>,
}

impl Wav {
    fn begin(path: &Path, rate: Rate) -> io::Result<Self> {
        let mut out = BufWriter::new(Draft::begin(path)?);
        out.write_all(&[0; HEADER_BYTES])?;
        Ok(Self {
            path: path.to_owned(),
            out,
            rate,
            samples: 0,
            is_cut: false,
            written: Ok(()),
        })
    }

    /// Adds a frame, if there is room for it.
    fn write(&mut self, frame: &[f32], room: &mut u64) {
        let bytes = frame.len() as u64 * u64::from(SAMPLE_BYTES);
        if *room < bytes {
            self.is_cut = true;
        }
        if self.is_cut || self.written.is_err() {
            return;
        }
        *room -= bytes;
        self.samples += frame.len() as u32;
        let scale = f32::from(i16::MAX);
        self.written = frame.iter().try_for_each(|sample| {
            // Out of range it is clipped.
            let sample = (sample * scale).round() as i16;
            self.out.write_all(&sample.to_le_bytes())
        });
    }

    /// Whether all could be written so far.
    fn check(&mut self) -> io::Result<()> {
        std::mem::replace(&mut self.written, Ok(()))
    }

    /// Says in the header how much it is.
    fn finish(mut self) -> io::Result<()> {
        self.written?;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header(self.rate, self.samples))?;
        let draft = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        draft.finish()
    }
}

/// What RIFF says of uncompressed sound of one channel.
fn header(rate: Rate, samples: u32) -> [u8; HEADER_BYTES] {
    let (hz, bytes) = (rate.hz(), samples * SAMPLE_BYTES);
    let mut header = [0; HEADER_BYTES];
    let mut put = |at: usize, part: &[u8]| header[at..at + part.len()].copy_from_slice(part);
    put(0, b"RIFF");
    put(4, &(RIFF_BYTES + bytes).to_le_bytes());
    put(8, b"WAVEfmt ");
    put(16, &16_u32.to_le_bytes());
    // PCM, one channel.
    put(20, &[1, 0, 1, 0]);
    put(24, &hz.to_le_bytes());
    put(28, &(hz * SAMPLE_BYTES).to_le_bytes());
    put(32, &[SAMPLE_BYTES as u8, 0, 16, 0]);
    put(36, b"data");
    put(40, &bytes.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_follows() {
        let header = header(Rate::Hz8000, 80);
        let expected: [&[u8]; 7] = [
            b"RIFF",
            &[196, 0, 0, 0],
            b"WAVEfmt ",
            &[16, 0, 0, 0, 1, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x80, 0x3e, 0, 0],
            &[2, 0, 16, 0],
            b"data",
            &[160, 0, 0, 0],
        ];
        assert_eq!(header.as_slice(), expected.concat());
    }

    #[test]
    fn what_has_no_room_is_left_out_and_told() {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("a.wav");
        let mut wav = Wav::begin(&path, Rate::Hz8000).expect("it is new");
        let mut room = 200;
        for level in [0.5, -2.0, 1.0] {
            wav.write(&[level; 40], &mut room);
        }
        assert!(wav.is_cut && room == 40);
        wav.finish().expect("there is room");
        let bytes = std::fs::read(&path).expect("it is there");
        assert_eq!(bytes.len(), HEADER_BYTES + 160);
        let sample = |at: usize| {
            let bytes = bytes[HEADER_BYTES + 2 * at..].first_chunk();
            i16::from_le_bytes(*bytes.expect("it is there"))
        };
        assert_eq!((sample(0), sample(40)), (16_384, i16::MIN), "clipped");
    }
}
