//! The client's side of gRPC: a connection of HTTP/2 to one server, and what is asked over it.
//!
//! All that is asked here is one message, or several that are known before, which is answered by one, or by many as they come ([`Messages`]). So a
//! request is a stream with a head, the messages as its only data, and its end; an answer is a head, the message, and trailers with the status. `h2` brings frames, windows and streams; one
//! task per connection drives it. Whoever asks puts its request into the connection under a lock and waits for the answer
//! in its own task, so requests that are asked in one turn of the runtime leave in one write, and answers that came in one
//! read wake all that wait for them.
//!
//! ```text
//! unary ─▶ gate ─▶ stream ──▶ h2 ◀──▶ Wire ◀──▶ server
//!          waits while the    │       notes signs of life
//!          server takes no    └ drive: the task of the connection, and its pings
//!          more
//! ```
//!
//! # What a failure leaves open
//!
//! A request that has not left, or not as a whole, was not begun ([`Failure::Unsent`]): there is no connection, the connection
//! ended before the request had its turn, or its time was over. The same holds when the server says so (REFUSED_STREAM). After
//! that only the server's word ([`Failure::Status`]) says what became of it; where none comes, it may have been done
//! ([`Failure::Lost`]). A request that is dropped is reset; the server may have done it.
//!
//! # Caveats
//!
//! No TLS, no compression, one message a request. A request that the server has not room for when it is dropped or out of time may still
//! leave, followed by its reset.

mod address;
mod connection;
mod failure;
mod message;
mod messages;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

pub(crate) use address::Address;
pub(crate) use connection::Connection;
pub(crate) use failure::Failure;
pub(crate) use message::request;
pub(crate) use messages::Messages;

/// A server, and the connection to it: made when it is first needed, and again when it broke.
#[derive(Debug)]
pub(crate) struct Channel {
    address: Address,
    limit: Duration,
    connection: Mutex<Option<Connection>>,
}

impl Channel {
    /// To a server that is connected to within so long; nothing is connected yet.
    pub fn new(address: Address, limit: Duration) -> Channel {
        Channel { address, limit, connection: Mutex::default() }
    }

    /// The open connection, or a new one that belongs to this runtime. The error says why there is none; nothing was asked then.
    pub async fn connection(&self) -> Result<Connection, String> {
        let connect = async {
            let mut place = self.connection.lock().await;
            if let Some(connection) = place.as_ref().filter(|connection| !connection.is_closed()) {
                return Ok(connection.clone());
            }
            let connection = Connection::open(&self.address, self.limit).await?;
            Ok(place.insert(connection).clone())
        };
        // Who waits for the others' attempt waits no longer than for one of its own.
        timeout(self.limit, connect)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.limit)))
    }
}
