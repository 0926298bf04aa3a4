//! Where a client connects, and what its failures in the transport say.

use std::time::Duration;

use kv::Error;
use tonic::transport::Endpoint;

use super::{CONNECTION_WINDOW_BYTES, RESETS_MAX, STREAM_WINDOW_BYTES};

/// A connection is asked for a sign of life so often: a server that vanished without a word is noticed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// And is given up when none comes for so long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers of one answer: a status with its details has at most about 10 KiB.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// A server of gRPC at HOST:PORT; nothing is connected yet.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let invalid =
        || Error::Invalid(format!("'{address}' is no address: use HOST:PORT, such as 127.0.0.1:7401"));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| invalid())?;
    if endpoint.uri().port().is_none() || endpoint.uri().path() != "/" {
        return Err(invalid());
    }
    Ok(endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        // A request whose time is over is reset, and its late answer must not end the others' connection.
        .http2_max_concurrent_reset_streams(RESETS_MAX)
        .http2_max_local_error_reset_streams(None))
}

/// The cause at the bottom of an error: the one that says something.
pub(crate) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Whether an error in the transport is that there is no connection: the request has not left.
pub(crate) fn is_connect_error(mut error: &(dyn std::error::Error + 'static)) -> bool {
    loop {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        match error.source() {
            Some(source) => error = source,
            None => return false,
        }
    }
}
