//! The connection of a client: HTTP/2, its signs of life, and how it ends. What comes on it, [`Calls`] answers.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use h2::server::Builder;

use super::calls::Calls;
use super::greeting::Greeted;
use super::life::{self, Pace, Wire};
use super::{CONNECTION_WINDOW_BYTES, RESETS_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX};
use crate::Stop;

/// Headers of one request: what implementations of gRPC take of metadata at most, unless told otherwise.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// A client that vanished without a word is noticed after 40 s at the latest, and an idle connection costs a ping in 30 s.
const PACE: Pace = Pace { interval: Duration::from_secs(15), timeout: Duration::from_secs(10) };

/// Serves it until either side ends it. At a stop it says goodbye: what was asked is answered, and no more is taken. The error
/// says why it broke.
pub(super) async fn serve(bytes: Greeted, calls: Calls, mut stop: Stop) -> Result<(), String> {
    let (wire, heard) = Wire::new(bytes);
    let mut connection = tokio::select! {
        biased;
        begun = builder().handshake::<_, Bytes>(wire) => begun.map_err(|error| error.to_string())?,
        // Nothing was asked.
        () = stop.asked() => return Ok(()),
    };
    let pings = connection.ping_pong().expect("it is taken once");
    let mut silence = pin!(life::silence(PACE, heard, pings));
    let mut says_goodbye = false;
    loop {
        // Whoever waits for the next call sends and receives for all.
        tokio::select! {
            biased;
            call = connection.accept() => match call {
                Some(Ok((request, respond))) => calls.begin(request, respond),
                Some(Err(error)) => return Err(error.to_string()),
                None => return Ok(()),
            },
            why = &mut silence => return Err(why),
            () = stop.asked(), if !says_goodbye => {
                says_goodbye = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Settings that suit: windows for values of megabytes, bounded streams and headers.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(RESETS_MAX)
        // Counted over a connection's whole life, as when the rest of a request arrives after it was refused: a limit would
        // end every connection some day. What a stream leaves behind is bounded by the connection's account.
        .max_local_error_reset_streams(None);
    builder
}
