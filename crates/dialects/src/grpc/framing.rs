//! How a message lies in a stream: a byte that says whether it is compressed, its length in four, and then itself (see
//! "Length-Prefixed-Message" in gRPC's PROTOCOL-HTTP2.md).

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// Bytes before a message.
pub(super) const HEAD_BYTES: usize = 5;

/// What stands before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub is_compressed: bool,
    /// Of the message, in bytes.
    pub length: usize,
}

impl Head {
    /// Of the message that begins here, as soon as it is there.
    pub fn of(bytes: &[u8]) -> Option<Head> {
        let &[compressed, a, b, c, d] = bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Head { is_compressed: compressed != 0, length: u32::from_be_bytes([a, b, c, d]) as usize })
    }
}

/// A message as it goes out.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut into = BytesMut::with_capacity(HEAD_BYTES + length);
    into.put_u8(0);
    into.put_u32(u32::try_from(length).expect("no message is near 4 GiB"));
    message.encode_raw(&mut into);
    into.freeze()
}
