//! What is to be published: a bounded queue of messages, cut into pieces, each kept until the broker has taken all of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use node::bus::{MESSAGE_BYTES_MAX, PIECE_HEAD_BYTES, Sender, pieces};

/// So many messages may wait for a broker that is away.
pub(super) const MESSAGES_MAX: usize = 65_536;
/// So many bytes of them: some messages of the largest size.
const BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// So many pieces are on their way at once: more than a round trip on the same machine takes.
pub(super) const WINDOW: usize = 32;
/// The largest piece where a broker does not tell what it takes: of the brokers in wide use AWS IoT Core takes the least, 128 KiB.
const PIECE_BYTES: usize = 120 << 10;
/// Brokers that take less are of no use to anybody.
const PIECE_BYTES_MIN: usize = 1 << 10;
/// What a packet has around a piece, besides its topic.
const PACKET_HEAD_BYTES: usize = 32;

/// Of one connection after another.
pub(super) struct Queue {
    sender: Sender,
    next: u64,
    /// In the order of their numbers: first those on their way.
    messages: VecDeque<Message>,
    bytes: usize,
    dropped: u64,
    piece_bytes_max: usize,
    /// The messages of the pieces that were given out, in order, until they are known under the broker's ids.
    given: VecDeque<u64>,
    /// The messages of the pieces that are on their way, by those ids.
    sent: BTreeMap<u16, u64>,
    /// Whether the broker has taken a piece since it connected.
    has_taken: bool,
}

struct Message {
    number: u64,
    topic: String,
    body: Bytes,
    /// Those that are to be given out yet, from the last to the first; none before the first is given out.
    pieces: Option<Vec<Bytes>>,
    /// How many are given out or to be, and not taken.
    open: usize,
}

impl Queue {
    pub fn new(sender: Sender) -> Queue {
        Queue {
            sender,
            next: 0,
            messages: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            piece_bytes_max: PIECE_BYTES,
            given: VecDeque::new(),
            sent: BTreeMap::new(),
            has_taken: false,
        }
    }

    /// Who publishes.
    #[cfg(test)]
    pub fn sender(&self) -> Sender {
        self.sender
    }

    /// Puts a message to the end. When there is no room the oldest go.
    pub fn push(&mut self, topic: String, body: Bytes) {
        if body.len() > MESSAGE_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        self.next += 1;
        self.bytes += body.len();
        self.messages.push_back(Message { number: self.next, topic, body, pieces: None, open: 0 });
        while self.messages.len() > MESSAGES_MAX || self.bytes > BYTES_MAX {
            let oldest = self.messages.pop_front().expect("there are too many");
            self.bytes -= oldest.body.len();
            self.dropped += 1;
        }
    }

    /// The next piece to publish, and where; `None` = there is none, or enough are on their way.
    pub fn give(&mut self) -> Option<(String, Bytes)> {
        if self.given.len() + self.sent.len() >= WINDOW {
            return None;
        }
        let (sender, bytes_max) = (self.sender, self.piece_bytes_max);
        let unsent = |message: &&mut Message| message.pieces.as_ref().is_none_or(|left| !left.is_empty());
        let message = self.messages.iter_mut().find(unsent)?;
        let left = message.pieces.get_or_insert_with(|| {
            let room = bytes_max.saturating_sub(message.topic.len() + PACKET_HEAD_BYTES);
            let mut left = pieces(sender, message.number, &message.body, room.max(PIECE_HEAD_BYTES + 1));
            left.reverse();
            message.open = left.len();
            left
        });
        let piece = left.pop().expect("a message has a piece, and there is one left");
        self.given.push_back(message.number);
        Some((message.topic.clone(), piece))
    }

    /// The piece that was given out before all others that have no id yet is on its way under this one.
    pub fn sends(&mut self, id: u16) {
        if let Some(number) = self.given.pop_front() {
            self.sent.insert(id, number);
        }
    }

    /// The broker has taken a piece.
    pub fn taken(&mut self, id: u16) {
        self.has_taken = true;
        let Some(number) = self.sent.remove(&id) else { return };
        // It may have been dropped for want of room.
        let Ok(place) = self.messages.binary_search_by_key(&number, |message| message.number) else { return };
        let message = &mut self.messages[place];
        message.open -= 1;
        if message.open == 0 {
            self.bytes -= message.body.len();
            self.messages.remove(place);
        }
    }

    /// A connection stands, to a broker that takes packets of so many bytes if it tells.
    pub fn connected(&mut self, packet_bytes_max: Option<u32>) {
        self.has_taken = false;
        if let Some(told) = packet_bytes_max {
            self.piece_bytes_max = (told as usize).clamp(PIECE_BYTES_MIN, PIECE_BYTES);
        }
    }

    /// The connection is over: what the broker has not taken is published again, whatever it may have received.
    ///
    /// Where it took nothing at all it may be that what it was given is too large: it says so by nothing but the end of the
    /// connection, or in a way that the client does not understand. So pieces are smaller from then on.
    pub fn disconnected(&mut self) {
        if !self.sent.is_empty() && !self.has_taken {
            self.piece_bytes_max = (self.piece_bytes_max / 2).max(PIECE_BYTES_MIN);
        }
        self.given.clear();
        self.sent.clear();
        self.messages.iter_mut().for_each(|message| message.pieces = None);
    }

    /// Messages that wait for the broker, or are on their way.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Messages that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use kv::NodeId;

    use super::*;

    fn queue() -> Queue {
        let mut queue = Queue::new(Sender { node: NodeId(1), life: 5 });
        queue.connected(None);
        queue
    }

    fn body(length: usize) -> Bytes {
        vec![7; length].into()
    }

    /// Gives out all that can be, under rising ids from `first`; returns how many.
    fn give_all(queue: &mut Queue, first: u16) -> u16 {
        let mut next = first;
        while queue.give().is_some() {
            queue.sends(next);
            next += 1;
        }
        next - first
    }

    #[test]
    fn message_is_kept_until_the_broker_has_all_its_pieces() {
        let mut queue = queue();
        queue.push("t".into(), body(300 << 10));
        assert_eq!(give_all(&mut queue, 1), 3);
        queue.taken(2);
        queue.taken(1);
        assert_eq!(queue.len(), 1);
        queue.taken(3);
        assert_eq!((queue.len(), queue.bytes), (0, 0));
    }

    #[test]
    fn what_was_not_taken_is_published_again_after_the_connection_broke() {
        let mut queue = queue();
        (0..3).for_each(|_| queue.push("t".into(), body(10)));
        assert_eq!(give_all(&mut queue, 1), 3);
        queue.taken(2);
        queue.disconnected();
        queue.connected(None);
        assert_eq!(give_all(&mut queue, 7), 2);
        queue.taken(2);
        assert_eq!(queue.len(), 2, "ids of an earlier connection say nothing");
    }

    #[test]
    fn only_a_window_is_on_its_way() {
        let mut queue = queue();
        (0..100).for_each(|_| queue.push("t".into(), body(10)));
        assert_eq!(usize::from(give_all(&mut queue, 1)), WINDOW);
        queue.taken(1);
        assert_eq!(give_all(&mut queue, 100), 1);
    }

    #[test]
    fn oldest_messages_go_when_there_is_no_room_and_are_counted() {
        let mut queue = queue();
        queue.push("t".into(), body(10));
        assert_eq!(give_all(&mut queue, 1), 1);
        (0..MESSAGES_MAX).for_each(|_| queue.push("t".into(), body(1)));
        assert_eq!((queue.len(), queue.dropped()), (MESSAGES_MAX, 1));
        queue.taken(1);
        assert_eq!(queue.len(), MESSAGES_MAX, "what was dropped on its way is no other message's");
        queue.push("t".into(), body(MESSAGE_BYTES_MAX + 1));
        assert_eq!(queue.dropped(), 2);
        (0..3).for_each(|_| queue.push("t".into(), body(MESSAGE_BYTES_MAX)));
        assert!(queue.bytes <= BYTES_MAX);
    }

    #[test]
    fn pieces_are_as_small_as_the_broker_tells_or_shows() {
        let mut queue = queue();
        queue.connected(Some(2000));
        queue.push("topic".into(), body(10_000));
        let (topic, piece) = queue.give().expect("there is a message");
        assert!(topic.len() + piece.len() + PACKET_HEAD_BYTES <= 2000);
        queue.sends(1);
        queue.disconnected();
        queue.connected(None);
        let (_, piece) = queue.give().expect("it is given out again");
        assert!(piece.len() < 1024, "the broker went away when it was given more");
    }
}
