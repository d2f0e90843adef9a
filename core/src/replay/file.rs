//! Capture files: pcap and pcapng, read a record at a time by `pcap-parser`.

use std::fmt;
use std::io::{self, Read};

use pcap_parser::pcapng::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, PcapNGOption, SecretsType,
};
use pcap_parser::traits::{PcapNGPacketBlock as _, PcapReaderIterator};
use pcap_parser::{Block, LegacyPcapBlock, PcapBlockOwned, PcapError, PcapHeader, create_reader};

use crate::limits::{CAPTURE_INTERFACES_MAX, CAPTURE_RECORD_BYTES_MAX};

/// Bytes of a file read at a time; the buffer grows to [`CAPTURE_RECORD_BYTES_MAX`] for a record that needs it.
const BUFFER_BYTES: usize = 1 << 20;
/// Type and length of a pcapng block, and its length again.
const BLOCK_BYTES_MIN: usize = 12;
const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// Options of pcapng, by block: `epb_dropcount` and `isb_ifdrop`, both counts of 64 bits; `if_tsoffset`.
const DROPPED_BEFORE: u16 = 4;
const DROPPED_BY_INTERFACE: u16 = 5;
const TIMESTAMP_OFFSET: u16 = 14;
/// The one secrets type we read: a TLS key log.
const TLS_KEY_LOG: SecretsType = SecretsType::TlsKeyLog;

/// Why reading a capture ended early. What was read before stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// Another format.
    #[error("the file is neither pcap nor pcapng")]
    UnknownFormat,
    /// The file ends, or a block inside it, in the middle of a record.
    #[error("the file ends inside a record, after {frames} whole frames")]
    Truncated {
        /// Frames read before.
        frames: u64,
    },
    /// A record says it is longer than anything that is captured.
    #[error("a record claims more than {} MiB, after {frames} good frames", CAPTURE_RECORD_BYTES_MAX >> 20)]
    TooLong {
        /// Frames read before.
        frames: u64,
    },
    /// The bytes contradict the format.
    #[error("the file is corrupt at byte {at}, after {frames} good frames")]
    Corrupt {
        /// Where the record starts that cannot be read.
        at: u64,
        /// Frames read before.
        frames: u64,
    },
    /// The operating system refused.
    #[error("the file could be read no further than byte {at}")]
    Unreadable {
        /// Bytes understood before.
        at: u64,
    },
}

/// One captured frame, lent for the length of a call.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured, in nanoseconds since 1970. A file may hold any value, in any order.
    pub stamp: u64,
    /// Link type, as the registry of tcpdump.org numbers them.
    pub link: u16,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// Bytes it had on the wire; more than `bytes` when the capture cut it.
    pub wire_len: usize,
    /// Frames that whoever captured lost before this one.
    pub dropped_before: u64,
}

/// What a capture holds, in the order of the file.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Lines of a TLS key log, from the file's own secrets block.
    KeyLog(&'a [u8]),
    /// Frames that whoever captured lost, and that no frame told.
    Dropped(u64),
    /// A frame of an interface that the file did not describe, or secrets of a kind unknown here.
    Unusable,
}

/// Reads a capture of either format, record by record. Memory is bounded by the longest record allowed.
pub struct CaptureReader<'r> {
    reader: Box<dyn PcapReaderIterator + Send + 'r>,
    layout: Layout,
    frames: u64,
}

/// What the blocks so far said of those to come.
#[derive(Debug, Default)]
struct Layout {
    /// Of the section, in the order of their numbers. Classic files have one.
    interfaces: Vec<Interface>,
    /// For blocks without a time.
    stamp_last: u64,
    is_classic: bool,
    /// Of the section.
    big_endian: bool,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u16,
    ticks_per_second: u64,
    offset_seconds: i64,
    /// Frames its enhanced packet blocks said were lost before them.
    dropped: u64,
}

impl<'r> CaptureReader<'r> {
    /// Opens a capture by its first bytes.
    ///
    /// # Errors
    /// It is empty, no capture, or ends inside its first header.
    pub fn new(file: impl Read + Send + 'r) -> Result<Self, CaptureError> {
        match create_reader(BUFFER_BYTES, Full(file)) {
            Ok(reader) => Ok(Self {
                reader,
                layout: Layout::default(),
                frames: 0,
            }),
            Err(PcapError::Eof) => Err(CaptureError::Empty),
            Err(PcapError::Incomplete(_)) => Err(CaptureError::Truncated { frames: 0 }),
            Err(PcapError::ReadError) => Err(CaptureError::Unreadable { at: 0 }),
            Err(_) => Err(CaptureError::UnknownFormat),
        }
    }

    /// Reads one record and hands what it holds to `take`; `false` at the end of the file. After an error there
    /// is nothing more to read.
    ///
    /// # Errors
    /// [`CaptureError`], with the count of frames that were good.
    pub fn step(&mut self, take: &mut impl FnMut(Item<'_>)) -> Result<bool, CaptureError> {
        loop {
            let at = self.position();
            let frames = self.frames;
            if self.layout.is_no_block(self.reader.data()) {
                return Err(CaptureError::Corrupt { at, frames });
            }
            match self.reader.next() {
                Ok((length, block)) => {
                    if let Some(item) = self.layout.item(&block) {
                        self.frames += u64::from(matches!(item, Item::Frame(_)));
                        take(item);
                    }
                    self.reader.consume(length);
                    return Ok(true);
                }
                Err(PcapError::Eof) => return Ok(false),
                Err(PcapError::Incomplete(_)) => self.refill()?,
                Err(PcapError::BufferTooSmall) => {
                    // Believed before there is memory for it.
                    let claimed = self.layout.claimed_len(self.reader.data());
                    if claimed.is_none_or(|len| len >= CAPTURE_RECORD_BYTES_MAX)
                        || !self.reader.grow(CAPTURE_RECORD_BYTES_MAX)
                    {
                        return Err(CaptureError::TooLong { frames });
                    }
                    self.refill()?;
                }
                Err(PcapError::UnexpectedEof) => return Err(CaptureError::Truncated { frames }),
                Err(PcapError::ReadError) => return Err(CaptureError::Unreadable { at }),
                Err(_) => return Err(CaptureError::Corrupt { at, frames }),
            }
        }
    }

    /// Bytes of the file worked off.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.reader.consumed() as u64
    }

    /// Frames read.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    fn refill(&mut self) -> Result<(), CaptureError> {
        let (at, frames) = (self.position(), self.frames);
        let before = self.reader.data().len();
        if self.reader.refill().is_err() {
            return Err(CaptureError::Unreadable { at });
        }
        // Asked for more and full already: the parser would ask for ever.
        if self.reader.data().len() == before && !self.reader.reader_exhausted() {
            return Err(CaptureError::Corrupt { at, frames });
        }
        Ok(())
    }
}

/// Reads as much as there is room for: a pipe gives less at a time, which the parser takes for the end of the file.
struct Full<R>(R);

impl<R: Read> Read for Full<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut len = 0;
        while len < out.len() {
            match self.0.read(&mut out[len..]) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if len == 0 => return Err(error),
                // It comes again when this is worked off.
                Err(_) => break,
            }
        }
        Ok(len)
    }
}

impl fmt::Debug for CaptureReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureReader")
            .field("position", &self.position())
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

impl Layout {
    /// What a record's header says of its length: of the data in classic files, of the whole block in others.
    fn claimed_len(&self, record: &[u8]) -> Option<usize> {
        let at = if self.is_classic { 8 } else { 4 };
        let len = *record.get(at..)?.first_chunk()?;
        let len = if self.big_endian {
            u32::from_be_bytes(len)
        } else {
            u32::from_le_bytes(len)
        };
        Some(len as usize)
    }

    /// Whether a block says that it is shorter than what every block has. pcap-parser 0.17 subtracts that from the
    /// length of a Process Information Block without looking.
    fn is_no_block(&self, record: &[u8]) -> bool {
        let claimed = self.claimed_len(record).filter(|_| !self.is_classic);
        claimed.is_some_and(|len| len < BLOCK_BYTES_MIN)
    }

    fn item<'a>(&mut self, block: &'a PcapBlockOwned<'a>) -> Option<Item<'a>> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                self.interfaces = vec![Interface::of_classic(header)];
                (self.is_classic, self.big_endian) = (true, header.is_bigendian());
                None
            }
            PcapBlockOwned::Legacy(record) => Some(self.classic_frame(record)),
            PcapBlockOwned::NG(Block::SectionHeader(section)) => {
                self.interfaces.clear();
                self.big_endian = section.big_endian();
                None
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(described)) => {
                if self.interfaces.len() < CAPTURE_INTERFACES_MAX {
                    let described = Interface::of_block(described, self.big_endian);
                    self.interfaces.push(described);
                }
                None
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => Some(self.enhanced(packet)),
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let Some(interface) = self.interfaces.first() else {
                    return Some(Item::Unusable);
                };
                Some(Item::Frame(Frame {
                    stamp: self.stamp_last,
                    link: interface.link,
                    bytes: packet.packet_data(),
                    wire_len: packet.orig_len() as usize,
                    dropped_before: 0,
                }))
            }
            PcapBlockOwned::NG(Block::DecryptionSecrets(secrets)) => {
                if secrets.secrets_type != TLS_KEY_LOG {
                    return Some(Item::Unusable);
                }
                let lines = secrets.data.get(..secrets.secrets_len as usize);
                Some(lines.map_or(Item::Unusable, Item::KeyLog))
            }
            PcapBlockOwned::NG(Block::InterfaceStatistics(statistics)) => {
                let interface = self.interfaces.get_mut(statistics.if_id as usize)?;
                let total = option(&statistics.options, DROPPED_BY_INTERFACE, self.big_endian)?;
                // The total holds what the packets told already.
                let more = total.saturating_sub(interface.dropped);
                interface.dropped = interface.dropped.saturating_add(more);
                (more > 0).then_some(Item::Dropped(more))
            }
            // Names, comments and what others put beside the packets.
            PcapBlockOwned::NG(_) => None,
        }
    }

    fn classic_frame<'a>(&mut self, record: &'a LegacyPcapBlock<'a>) -> Item<'a> {
        let Some(interface) = self.interfaces.first() else {
            return Item::Unusable;
        };
        let fraction = u128::from(record.ts_usec) * NANOS_PER_SECOND
            / u128::from(interface.ticks_per_second.max(1));
        let stamp = u128::from(record.ts_sec) * NANOS_PER_SECOND + fraction;
        self.stamp_last = u64::try_from(stamp).unwrap_or(u64::MAX);
        Item::Frame(Frame {
            stamp: self.stamp_last,
            link: interface.link,
            bytes: record.data,
            wire_len: record.origlen as usize,
            dropped_before: 0,
        })
    }

    fn enhanced<'a>(&mut self, packet: &'a EnhancedPacketBlock<'a>) -> Item<'a> {
        let Some(interface) = self.interfaces.get_mut(packet.if_id as usize) else {
            return Item::Unusable;
        };
        let dropped = option(&packet.options, DROPPED_BEFORE, self.big_endian).unwrap_or(0);
        interface.dropped = interface.dropped.saturating_add(dropped);
        let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
        self.stamp_last = interface.nanos(ticks);
        Item::Frame(Frame {
            stamp: self.stamp_last,
            link: interface.link,
            bytes: packet.packet_data(),
            wire_len: packet.origlen as usize,
            dropped_before: dropped,
        })
    }
}

impl Interface {
    fn of_classic(header: &PcapHeader) -> Self {
        let nanoseconds = header.is_nanosecond_precision();
        Self {
            link: link_number(header.network.0),
            ticks_per_second: if nanoseconds {
                1_000_000_000
            } else {
                1_000_000
            },
            offset_seconds: 0,
            dropped: 0,
        }
    }

    fn of_block(block: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Self {
        let offset = option(&block.options, TIMESTAMP_OFFSET, big_endian);
        Self {
            link: link_number(block.linktype.0),
            ticks_per_second: ticks_per_second(block.if_tsresol),
            offset_seconds: offset.unwrap_or(0).cast_signed(),
            dropped: 0,
        }
    }

    fn nanos(&self, ticks: u64) -> u64 {
        let per_second = u128::from(self.ticks_per_second.max(1));
        // At most 2^64 times 10^9: it fits 128 bits, with the sign.
        let nanos = (u128::from(ticks) * NANOS_PER_SECOND / per_second).cast_signed();
        let offset = i128::from(self.offset_seconds) * NANOS_PER_SECOND.cast_signed();
        u64::try_from((nanos + offset).max(0)).unwrap_or(u64::MAX)
    }
}

/// Of a resolution as `if_tsresol` has it: a power of 10, or with the top bit of 2. One that fits no number makes every
/// stamp zero.
fn ticks_per_second(resolution: u8) -> u64 {
    let exponent = u32::from(resolution & 0x7f);
    let base: u64 = if resolution & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(exponent).unwrap_or(u64::MAX)
}

/// The upper half of the field says how long the frame check sequence is, if it is there at all.
const fn link_number(field: i32) -> u16 {
    field as u16
}

/// The first option of a code, read as a number of 64 bits.
fn option(options: &[PcapNGOption<'_>], code: u16, big_endian: bool) -> Option<u64> {
    let option = options.iter().find(|option| option.code.0 == code)?;
    let bytes = *option.value().first_chunk::<8>()?;
    Some(if big_endian {
        u64::from_be_bytes(bytes)
    } else {
        u64::from_le_bytes(bytes)
    })
}
