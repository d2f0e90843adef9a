//! Video to send: captured by others, and synthetic.

use antiphon_core::plan::Codec;
use antiphon_core::rng::{Rng, Seed};
use antiphon_core::wire::payload::reassemble::{Frame, Reassembler};
use antiphon_core::wire::payload::vp8::Descriptor;
use antiphon_core::wire::rtp::{Header, HeaderFields, write_header};

use super::testing::captures::udp_payloads;

/// One packet of a picture, without its numbers.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// RTP time since the first picture.
    pub(crate) time: u32,
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
}

/// A clip of pictures, repeated without end.
pub(crate) struct Clip {
    /// Packets of each picture.
    pictures: Vec<Vec<Packet>>,
    next: usize,
    /// RTP time of a whole turn.
    turn: u32,
    turns: u32,
}

impl Clip {
    fn new(packets: Vec<Packet>) -> Self {
        let mut pictures: Vec<Vec<Packet>> = Vec::new();
        for packet in packets {
            match pictures.last_mut() {
                Some(picture) if picture[0].time == packet.time => picture.push(packet),
                _ => pictures.push(vec![packet]),
            }
        }
        let last = pictures.last().expect("a clip has pictures")[0].time;
        Self {
            pictures,
            next: 0,
            turn: last + 3_000,
            turns: 0,
        }
    }

    /// The packets of the next picture.
    pub(crate) fn next_picture(&mut self) -> Vec<Packet> {
        let mut packets = self.pictures[self.next].clone();
        let passed = self.turn.wrapping_mul(self.turns);
        for packet in &mut packets {
            packet.time = packet.time.wrapping_add(passed);
        }
        self.next = (self.next + 1) % self.pictures.len();
        self.turns += u32::from(self.next == 0);
        packets
    }
}

/// VP8's numbers of the pictures of one source.
pub(crate) struct Vp8Numbers {
    pub(crate) picture_id: u16,
    pub(crate) tl0_picture_index: u8,
}

impl Vp8Numbers {
    /// Gives a picture the next numbers, in place of those it has.
    pub(crate) fn number(&mut self, packets: &mut [Packet]) {
        for (place, packet) in packets.iter_mut().enumerate() {
            let descriptor = Descriptor::parse(&packet.payload).expect("a VP8 payload");
            if place == 0 {
                let base = descriptor
                    .temporal
                    .is_none_or(|temporal| temporal.layer == 0);
                self.picture_id = self.picture_id.wrapping_add(1);
                self.tl0_picture_index = self.tl0_picture_index.wrapping_add(u8::from(base));
            }
            let picture_id = descriptor.picture_id;
            let tl0_picture_index = descriptor.tl0_picture_index;
            let numbered = Descriptor {
                picture_id: picture_id.map(|id| id.with_value(self.picture_id)),
                tl0_picture_index: tl0_picture_index.map(|_| self.tl0_picture_index),
                ..descriptor
            };
            let len = numbered.write(&mut packet.payload);
            assert_eq!(len, Some(descriptor.len()));
        }
    }
}

/// The captured clip at `path`; `None`, and a word about it, without the folder of test data.
pub(crate) fn captured(path: &str, payload_type: u8) -> Option<Clip> {
    let datagrams = udp_payloads(path)?;
    let mut packets = Vec::new();
    let mut first = None;
    for datagram in &datagrams {
        let header = Header::parse(datagram).expect("the capture is of RTP alone");
        if header.payload_type == payload_type {
            let payload = header.payload(datagram).expect("well padded").to_vec();
            let time = header
                .timestamp
                .wrapping_sub(*first.get_or_insert(header.timestamp));
            let marker = header.marker;
            packets.push(Packet {
                time,
                marker,
                payload,
            });
        }
    }
    Some(Clip::new(packets))
}

/// A clip of made-up pictures: 1 to 4 packets of up to `bytes_max` each, every thirtieth a key picture.
pub(crate) fn synthetic(codec: Codec, pictures: u32, bytes_max: u32) -> Clip {
    let mut rng = Seed::new([codec.name().len() as u8; 32]).rng();
    let mut packets = Vec::new();
    for picture in 0..pictures {
        let count = 1 + rng.below(4) as usize;
        for place in 0..count {
            let (starts, ends) = (place == 0, place == count - 1);
            let payload = made_up(codec, &mut rng, picture, (starts, ends), bytes_max);
            packets.push(Packet {
                time: picture * 3_000,
                marker: ends,
                payload,
            });
        }
    }
    Clip::new(packets)
}

fn made_up(
    codec: Codec,
    rng: &mut Rng,
    picture: u32,
    (starts, ends): (bool, bool),
    bytes_max: u32,
) -> Vec<u8> {
    let key = picture.is_multiple_of(30);
    let id = (picture as u16).to_be_bytes();
    let mut payload = match codec {
        // Extended, start of partition 0; picture id of 15 bits, TL0PICIDX, TID.
        Codec::Vp8 => vec![
            0x80 | u8::from(starts) << 4,
            0xe0,
            0x80 | id[0],
            id[1],
            id[1],
            0,
        ],
        // Picture id, P, B, E.
        Codec::Vp9 { .. } => {
            let flags = u8::from(!key) << 6 | u8::from(starts) << 3 | u8::from(ends) << 2;
            vec![0x80 | flags, 0x80 | id[0], id[1]]
        }
        // FU-A of a slice, with the parameter sets of a key picture left out: an IDR slice says enough.
        Codec::H264 { .. } => {
            let kind = if key { 5 } else { 1 };
            if starts && ends {
                vec![0x60 | kind]
            } else {
                vec![
                    0x60 | 28,
                    u8::from(starts) << 7 | u8::from(ends) << 6 | kind,
                ]
            }
        }
        // One OBU: Z, Y, W = 1, N; its header goes with the first packet.
        Codec::Av1 { .. } => {
            let flags =
                u8::from(!starts) << 7 | u8::from(!ends) << 6 | u8::from(key && starts) << 3;
            if starts {
                vec![0x10 | flags, 6 << 3]
            } else {
                vec![0x10 | flags]
            }
        }
        other => panic!("no pictures of {other:?}"),
    };
    if starts && codec == Codec::Vp8 {
        payload.push(u8::from(!key));
    }
    let mut body = vec![0; 1 + rng.below(bytes_max - 10) as usize];
    rng.fill(&mut body);
    payload.extend_from_slice(&body);
    payload
}

/// The whole pictures among packets given in order as (number, packet), from the first key picture on.
pub(crate) fn pictures<'a>(
    codec: Codec,
    packets: impl Iterator<Item = (u64, u32, bool, &'a [u8])>,
) -> Vec<Frame> {
    let mut reassembler = Reassembler::new(codec);
    let mut frames = Vec::new();
    for (sequence, timestamp, marker, payload) in packets {
        let fields = HeaderFields {
            payload_type: 96,
            marker,
            sequence_number: sequence as u16,
            timestamp,
            ssrc: 1,
        };
        let mut header = [0; 12];
        write_header(&mut header, &fields, &[]).expect("it fits");
        let header = Header::parse(&header).expect("just written");
        frames.extend(reassembler.push(&header, payload));
    }
    let first = frames
        .iter()
        .position(|frame| frame.keyframe)
        .unwrap_or(frames.len());
    frames.split_off(first)
}
