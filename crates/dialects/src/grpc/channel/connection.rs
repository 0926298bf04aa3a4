//! One connection, and requests on it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::codegen::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use tonic::codegen::http::uri::{self, Authority, PathAndQuery, Scheme};
use tonic::codegen::http::{HeaderName, Method, Request, Uri, Version};

use super::{Address, Failure, Messages, message};
use crate::grpc::life::{self, Pace, Wire};
use crate::grpc::timeout::{GRPC_TIMEOUT, grpc_timeout_of};
use crate::grpc::{CONNECTION_WINDOW_BYTES, RESETS_MAX, STREAM_WINDOW_BYTES};

/// Headers of one answer: a status with its details has at most about 10 KiB.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Requests at one time as long as the server has not said how many it takes: what RFC 9113 wants it to take at least.
const REQUESTS_FIRST: usize = 100;

/// A server that vanished without a word is noticed after 15 s at the latest, and an idle connection costs a ping in 10 s.
const PACE: Pace = Pace { interval: Duration::from_secs(5), timeout: Duration::from_secs(5) };

/// A connection to one server, for good: when it broke, make another. Clones are the same connection.
#[derive(Clone)]
pub(crate) struct Connection {
    open: Arc<Open>,
    /// Of all requests.
    headers: Arc<HeaderMap>,
}

struct Open {
    authority: Authority,
    /// Where requests begin. Whoever begins while the server takes no more holds it until it does, and the others wait in line.
    gate: Mutex<SendRequest<Bytes>>,
    ended: Ended,
}

/// Why the connection has ended, once it has.
type Ended = Arc<OnceLock<String>>;

impl Connection {
    /// Connects within so long, and has a task on this runtime drive the connection. The error says why there is none.
    pub async fn open(address: &Address, limit: Duration) -> Result<Connection, String> {
        Connection::open_with(address, limit, PACE).await
    }

    pub(super) async fn open_with(
        address: &Address,
        limit: Duration,
        pace: Pace,
    ) -> Result<Connection, String> {
        let stream = address.dial(limit).await.map_err(|error| error.to_string())?;
        let (wire, heard) = Wire::new(stream);
        let handshake = builder().handshake::<_, Bytes>(wire);
        let (gate, mut connection) = handshake.await.map_err(|error| error.to_string())?;
        let pings = connection.ping_pong().expect("it is taken once");
        let ended = Ended::default();
        tokio::spawn(drive(connection, life::silence(pace, heard, pings), ended.clone()));
        let open = Open { authority: address.authority(), gate: Mutex::new(gate), ended };
        Ok(Connection { open: Arc::new(open), headers: Arc::new(headers()) })
    }

    /// The same connection, with one more header on each request.
    pub fn with_header(self, name: HeaderName, value: HeaderValue) -> Connection {
        let mut headers = Arc::unwrap_or_clone(self.headers);
        headers.insert(name, value);
        Connection { headers: Arc::new(headers), ..self }
    }

    /// Whether it takes no more requests: it has ended, or the server says that it will.
    pub fn is_closed(&self) -> bool {
        if self.open.ended.get().is_some() {
            return true;
        }
        // Where the gate is held, somebody waits for the server to take more.
        let Ok(mut gate) = self.open.gate.try_lock() else { return false };
        matches!(gate.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    /// Asks one thing and waits for the answer. A `time` is said to the server as well, and then over: the request is reset.
    pub async fn unary<A: Message + Default>(
        &self,
        path: &'static str,
        message: &impl Message,
        time: Option<Duration>,
    ) -> Result<A, Failure> {
        let answer = self.exchange(path, message::request(message)?, time).await?;
        A::decode(answer).map_err(Failure::malformed)
    }

    /// The same of a message that is encoded and framed, and of an answer that is still to be decoded.
    pub async fn exchange(
        &self,
        path: &'static str,
        message: Bytes,
        time: Option<Duration>,
    ) -> Result<Bytes, Failure> {
        let mut sent = false;
        let Some(time) = time else { return self.run(path, message, None, &mut sent).await };
        // Few requests have a time of their own: the others need no room for this.
        let run = Box::pin(self.run(path, message, Some(time), &mut sent));
        match timeout(time, run).await {
            Ok(result) => result,
            Err(_) if sent => Err(Failure::Lost(format!("no answer within {time:?}"))),
            Err(_) => Err(Failure::Unsent(format!("the server took no more requests for {time:?}"))),
        }
    }

    /// Asks one thing, and waits for the answer of many messages to begin.
    pub async fn messages(&self, path: &'static str, message: &impl Message) -> Result<Messages, Failure> {
        self.conversation(path, message::request(message)?).await
    }

    /// The same of a question of many messages, each encoded and framed.
    pub async fn conversation(&self, path: &'static str, messages: Bytes) -> Result<Messages, Failure> {
        let (response, mut stream) = self.begin(path, None).await.map_err(|error| self.unsent(&error))?;
        stream.send_data(messages, true).map_err(|error| self.unsent(&error))?;
        let response = response.await.map_err(|error| self.lost(&error))?;
        Ok(Messages::new(self.clone(), message::body(response)?))
    }

    async fn run(
        &self,
        path: &'static str,
        message: Bytes,
        time: Option<Duration>,
        sent: &mut bool,
    ) -> Result<Bytes, Failure> {
        let response = {
            let (response, mut stream) = self.begin(path, time).await.map_err(|error| self.unsent(&error))?;
            // All of it waits for its turn in the connection, which sends what the server has room for. Without its end the
            // request is none.
            stream.send_data(message, true).map_err(|error| self.unsent(&error))?;
            response
        };
        *sent = true;
        let response = response.await.map_err(|error| self.lost(&error))?;
        message::read(response, |error| self.lost(&error)).await
    }

    async fn begin(
        &self,
        path: &'static str,
        time: Option<Duration>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut gate = self.open.gate.lock().await;
        std::future::poll_fn(|cx| gate.poll_ready(cx)).await?;
        gate.send_request(self.request(path, time), false)
    }

    fn request(&self, path: &'static str, time: Option<Duration>) -> Request<()> {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.open.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(parts).expect("it has all its parts");
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = HeaderMap::clone(&self.headers);
        if let Some(time) = time {
            request.headers_mut().insert(GRPC_TIMEOUT, grpc_timeout_of(time));
        }
        request
    }

    fn unsent(&self, error: &h2::Error) -> Failure {
        Failure::Unsent(self.why(error))
    }

    pub(super) fn lost(&self, error: &h2::Error) -> Failure {
        // Only this says that the server has not begun (RFC 9113, 8.7).
        if error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
            return Failure::Unsent("the server refused to begin with the request".into());
        }
        Failure::Lost(self.why(error))
    }

    fn why(&self, error: &h2::Error) -> String {
        match self.open.ended.get() {
            Some(why) if !error.is_reset() => why.clone(),
            _ => error.to_string(),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("authority", &self.open.authority)
            .field("ended", &self.open.ended)
            .finish_non_exhaustive()
    }
}

/// Sends and receives until either side ends the connection, or all clones of it and their requests are gone.
async fn drive(
    connection: h2::client::Connection<Wire<TcpStream>, Bytes>,
    silence: impl Future<Output = String>,
    ended: Ended,
) {
    let mut connection = std::pin::pin!(connection);
    let why = tokio::select! {
        biased;
        end = connection.as_mut() => match end {
            Ok(()) => "it was closed".into(),
            Err(error) => error.to_string(),
        },
        why = silence => why,
    };
    tracing::debug!(%why, "a connection to a server ended");
    // Before its requests are failed, which is when the connection goes.
    ended.set(why).expect("a connection ends once");
}

/// Settings that suit: windows for values of megabytes, and no push.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_max_send_streams(REQUESTS_FIRST)
        // A request whose time is over is reset, and its late answer must not end the others' connection.
        .max_concurrent_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(None);
    builder
}

fn headers() -> HeaderMap {
    let agent = concat!("capstan/", env!("CARGO_PKG_VERSION"));
    HeaderMap::from_iter([
        (TE, HeaderValue::from_static("trailers")),
        (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
        (USER_AGENT, HeaderValue::from_static(agent)),
    ])
}
