//! An answer of many messages, as they come.

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;

use super::message::{length, trailers};
use super::{Connection, Failure};
use crate::grpc::framing::HEAD_BYTES;

/// The messages of an answer. The server is told that there is room for more when they are taken; when this is dropped, that
/// nobody wants them.
pub(crate) struct Messages {
    connection: Connection,
    body: RecvStream,
    came: BytesMut,
}

impl Messages {
    pub(super) fn new(connection: Connection, body: RecvStream) -> Messages {
        Messages { connection, body, came: BytesMut::new() }
    }

    /// The next message; `None` when the server has ended the answer well.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(length) = length(&self.came)?
                && self.came.len() >= HEAD_BYTES + length
            {
                self.came.advance(HEAD_BYTES);
                return Ok(Some(self.came.split_to(length).freeze()));
            }
            let lost = |error: h2::Error| self.connection.lost(&error);
            let Some(piece) = self.body.data().await else {
                trailers(&mut self.body, lost).await?;
                return match self.came.is_empty() {
                    true => Ok(None),
                    false => Err(Failure::malformed("its last message is cut off")),
                };
            };
            let piece = piece.map_err(lost)?;
            self.body.flow_control().release_capacity(piece.len()).map_err(lost)?;
            self.came.extend_from_slice(&piece);
        }
    }
}
