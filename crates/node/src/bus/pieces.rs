//! Messages in pieces, as a broker takes them, and together again.
//!
//! ```text
//!   message 7 of n1   ──▶ [n1 7 0/3 crc ....] [n1 7 1/3 crc ....] [n1 7 2/3 crc ..]
//!                              │ twice              │ lost            │ first
//!                              ▼                    ▼                 ▼
//!   Joining at n2        0 and 2 are held until 1 comes, or something newer takes their room
//! ```

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kv::NodeId;
use kv::codec::{Malformed, Reader};
use replication::Instant;

/// The largest message, as on the connections between nodes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// What stands before the bytes of a piece.
pub const PIECE_HEAD_BYTES: usize = 48;

/// The first bytes of a piece, and the number of its format.
const MAGIC: u64 = u64::from_be_bytes(*b"capstan1");
/// So many messages may wait for pieces: a few of each member.
const HALVES_MAX: usize = 64;
/// So many bytes of them: a message of the largest size, and as much again of others.
const HALVES_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Of a message that has not come whole after so long a piece is lost: nobody sends it again after that.
const HALF_AGE_MICROS_MAX: u64 = 120_000_000;

/// Who sends pieces, in one life: numbers begin anew with each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sender {
    /// The node.
    pub node: NodeId,
    /// Random at each start.
    pub life: u64,
}

/// Cuts a message into pieces that have at most so many bytes each, heads included.
///
/// # Panics
///
/// When a piece has no room for a byte, or the message is too large.
pub fn pieces(sender: Sender, number: u64, message: &Bytes, bytes_max: usize) -> Vec<Bytes> {
    let room = bytes_max.checked_sub(PIECE_HEAD_BYTES).filter(|room| *room > 0);
    let room = room.expect("a piece has room for its head and a byte");
    assert!(message.len() <= MESSAGE_BYTES_MAX, "a message is as large as a frame at most");
    let count = message.len().div_ceil(room).max(1);
    let piece = |index: usize| {
        let part = &message[index * room..message.len().min((index + 1) * room)];
        let mut piece = BytesMut::with_capacity(PIECE_HEAD_BYTES + part.len());
        piece.put_u64(MAGIC);
        piece.put_u64(sender.node.0);
        piece.put_u64(sender.life);
        piece.put_u64(number);
        piece.put_u32(index as u32);
        piece.put_u32(count as u32);
        piece.put_u64(u64::from(checksum(&piece, part)));
        piece.extend_from_slice(part);
        piece.freeze()
    };
    (0..count).map(piece).collect()
}

/// What came of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message is whole.
    Whole(Sender, Bytes),
    /// Others are to come, or it is of a message that was whole before.
    Part,
    /// It is this node's own: a broker gives everything to all that have subscribed.
    Own,
}

/// Puts the pieces of others together again.
pub struct Joining {
    me: NodeId,
    /// By their senders, their numbers, and how many pieces they have: who sends one again may cut it into others.
    halves: BTreeMap<(Sender, u64, u32), Half>,
    bytes: usize,
    /// Messages that were given up for want of room, or of a piece for too long.
    given_up: u64,
}

struct Half {
    since: Instant,
    parts: BTreeMap<u32, Bytes>,
    bytes: usize,
}

impl Joining {
    /// At this node, with nothing received.
    pub fn new(me: NodeId) -> Joining {
        Joining { me, halves: BTreeMap::new(), bytes: 0, given_up: 0 }
    }

    /// Takes a piece. What is none, or is damaged, is refused.
    pub fn take(&mut self, now: Instant, piece: Bytes) -> Result<Received, Malformed> {
        let Piece { sender, number, index, count, part } = Piece::decode(piece)?;
        if sender.node == self.me {
            return Ok(Received::Own);
        }
        if count == 1 {
            return Ok(Received::Whole(sender, part));
        }
        let name = (sender, number, count);
        let half = self.halves.entry(name).or_insert(Half { since: now, parts: BTreeMap::new(), bytes: 0 });
        if half.bytes + part.len() > MESSAGE_BYTES_MAX {
            self.give_up(name);
            return Err(Malformed("the pieces of a message are larger than any message"));
        }
        if let std::collections::btree_map::Entry::Vacant(place) = half.parts.entry(index) {
            half.bytes += part.len();
            self.bytes += part.len();
            place.insert(part);
        }
        if half.parts.len() < count as usize {
            self.keep_to_limits(now, name);
            return Ok(Received::Part);
        }
        let half = self.halves.remove(&name).expect("it was just looked at");
        self.bytes -= half.bytes;
        let mut message = BytesMut::with_capacity(half.bytes);
        half.parts.into_values().for_each(|part| message.extend_from_slice(&part));
        Ok(Received::Whole(sender, message.freeze()))
    }

    /// How many messages were given up.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Gives the oldest up while there are too many, or too old ones; not the one that has just grown.
    fn keep_to_limits(&mut self, now: Instant, grown: (Sender, u64, u32)) {
        loop {
            let others = self.halves.iter().filter(|(name, _)| **name != grown);
            let Some((&name, oldest)) = others.min_by_key(|(_, half)| half.since) else { return };
            let is_old = now.since(oldest.since) > HALF_AGE_MICROS_MAX;
            if !is_old && self.halves.len() <= HALVES_MAX && self.bytes <= HALVES_BYTES_MAX {
                return;
            }
            self.give_up(name);
        }
    }

    fn give_up(&mut self, name: (Sender, u64, u32)) {
        if let Some(half) = self.halves.remove(&name) {
            self.bytes -= half.bytes;
            self.given_up += 1;
        }
    }
}

struct Piece {
    sender: Sender,
    number: u64,
    index: u32,
    count: u32,
    part: Bytes,
}

impl Piece {
    fn decode(bytes: Bytes) -> Result<Piece, Malformed> {
        if bytes.len() < PIECE_HEAD_BYTES {
            return Err(Malformed("it is shorter than a piece of a message"));
        }
        let part = bytes.slice(PIECE_HEAD_BYTES..);
        let sum = u64::from(checksum(&bytes[..PIECE_HEAD_BYTES - size_of::<u64>()], &part));
        let mut reader = Reader::new(bytes);
        if reader.u64()? != MAGIC {
            return Err(Malformed("it does not begin as a piece of a message of Capstan"));
        }
        let sender = Sender { node: NodeId(reader.u64()?), life: reader.u64()? };
        let (number, places) = (reader.u64()?, reader.u64()?);
        let (index, count) = ((places >> 32) as u32, places as u32);
        if reader.u64()? != sum {
            return Err(Malformed("a piece of a message is damaged"));
        }
        if index >= count {
            return Err(Malformed("a piece is beyond the last one of its message"));
        }
        Ok(Piece { sender, number, index, count, part })
    }
}

fn checksum(head: &[u8], part: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Sender = Sender { node: NodeId(1), life: 77 };

    fn at(micros: u64) -> Instant {
        Instant(micros)
    }

    fn message(length: usize) -> Bytes {
        (0..length).map(|place| place as u8).collect()
    }

    #[test]
    fn message_is_whole_in_whatever_order_and_how_often_its_pieces_come() {
        let message = message(1000);
        let cut = pieces(ONE, 7, &message, PIECE_HEAD_BYTES + 300);
        assert_eq!(cut.len(), 4);
        assert!(cut.iter().all(|piece| piece.len() <= PIECE_HEAD_BYTES + 300));
        let mut joining = Joining::new(NodeId(2));
        let mut whole = Vec::new();
        for place in [3, 1, 1, 3, 0, 2] {
            match joining.take(at(1), cut[place].clone()) {
                Ok(Received::Whole(sender, joined)) => whole.push((sender, joined)),
                other => assert_eq!(other, Ok(Received::Part)),
            }
        }
        assert_eq!(whole, [(ONE, message)]);
        assert_eq!(joining.bytes, 0);
    }

    #[test]
    fn message_that_is_cut_anew_is_not_mixed_with_its_former_pieces() {
        let message = message(1000);
        let (large, small) = (pieces(ONE, 7, &message, 548), pieces(ONE, 7, &message, 148));
        let mut joining = Joining::new(NodeId(2));
        assert_eq!(joining.take(at(1), large[0].clone()), Ok(Received::Part));
        let came: Vec<_> = small.into_iter().map(|piece| joining.take(at(2), piece)).collect();
        assert_eq!(came.last(), Some(&Ok(Received::Whole(ONE, message))));
    }

    #[test]
    fn empty_message_and_own_one_are_told_apart() {
        let empty = pieces(ONE, 1, &Bytes::new(), PIECE_HEAD_BYTES + 1);
        assert_eq!(empty.len(), 1);
        assert_eq!(
            Joining::new(NodeId(2)).take(at(1), empty[0].clone()),
            Ok(Received::Whole(ONE, Bytes::new()))
        );
        assert_eq!(Joining::new(NodeId(1)).take(at(1), empty[0].clone()), Ok(Received::Own));
    }

    #[test]
    fn damaged_and_strange_pieces_are_refused() {
        let sound = pieces(ONE, 1, &message(10), 100).remove(0);
        for place in 0..sound.len() {
            let mut damaged = sound.to_vec();
            damaged[place] ^= 1;
            assert!(Joining::new(NodeId(2)).take(at(1), damaged.into()).is_err(), "byte {place}");
        }
        assert!(Joining::new(NodeId(2)).take(at(1), Bytes::from_static(b"hello")).is_err());
    }

    #[test]
    fn what_waits_for_pieces_is_bounded_in_number_and_in_age() {
        let mut joining = Joining::new(NodeId(2));
        let half = |number| pieces(ONE, number, &message(10), PIECE_HEAD_BYTES + 5).remove(0);
        for number in 0..100 {
            assert_eq!(joining.take(at(number), half(number)), Ok(Received::Part));
        }
        assert_eq!((joining.halves.len(), joining.given_up()), (HALVES_MAX, 36));
        assert_eq!(joining.take(at(2 * HALF_AGE_MICROS_MAX), half(100)), Ok(Received::Part));
        assert_eq!((joining.halves.len(), joining.bytes), (1, 5));
    }
}
