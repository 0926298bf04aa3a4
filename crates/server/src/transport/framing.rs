//! Frames on a connection: four bytes of length, then so many bytes.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::FRAME_BYTES_MAX;

/// Reads are at least this large, so that many small frames come in one.
const READ_BYTES: usize = 64 << 10;
/// At most so much is reserved for what is yet to come of a frame: a length alone costs no more than that.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// Puts a frame into a buffer.
pub(crate) fn put(into: &mut BytesMut, frame: &[u8]) {
    into.put_u32(u32::try_from(frame.len()).expect("a frame is far below 4 GiB"));
    into.put_slice(frame);
}

/// Takes a whole frame off the front of a buffer, if it is there.
pub(crate) fn take(from: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(length) = from.get(..4) else { return Ok(None) };
    let length = u32::from_be_bytes(length.try_into().expect("these are four bytes")) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes is too large"),
        ));
    }
    if from.len() < 4 + length {
        from.reserve((4 + length - from.len()).min(RESERVED_BYTES_MAX));
        return Ok(None);
    }
    from.advance(4);
    Ok(Some(from.split_to(length).freeze()))
}

/// Reads frames off a connection.
pub(crate) struct Reader<R> {
    connection: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(connection: R) -> Reader<R> {
        Reader { connection, buffer: BytesMut::new() }
    }

    /// The next frame; `None` when the other end closed between two.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(frame) = take(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_BYTES);
            if self.connection.read_buf(&mut self.buffer).await? == 0 {
                let torn = !self.buffer.is_empty();
                return if torn { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
        }
    }

    /// The connection itself, when nothing more is expected on it.
    pub fn into_inner(self) -> R {
        self.connection
    }

    /// A frame that has come already.
    pub fn buffered(&mut self) -> io::Result<Option<Bytes>> {
        take(&mut self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_pieces_come_whole() {
        let mut all = BytesMut::new();
        put(&mut all, b"one");
        put(&mut all, b"");
        put(&mut all, b"three");
        for cut in 0..all.len() {
            let mut buffer = BytesMut::from(&all[..cut]);
            let mut frames = Vec::new();
            while let Some(frame) = take(&mut buffer).unwrap() {
                frames.push(frame);
            }
            buffer.extend_from_slice(&all[cut..]);
            while let Some(frame) = take(&mut buffer).unwrap() {
                frames.push(frame);
            }
            assert_eq!(frames, [&b"one"[..], b"", b"three"]);
        }
    }

    #[test]
    fn frame_announced_and_not_there_takes_little_memory() {
        let mut buffer = BytesMut::from(&(FRAME_BYTES_MAX as u32).to_be_bytes()[..]);
        assert_eq!(take(&mut buffer).unwrap(), None);
        assert!(buffer.capacity() <= 2 * RESERVED_BYTES_MAX, "{}", buffer.capacity());
    }

    #[test]
    fn frame_too_large_is_an_error() {
        let mut buffer = BytesMut::from(&[0xff; 8][..]);
        assert!(take(&mut buffer).is_err());
    }
}
