//! A server of HTTP/2 whose every step a test takes itself.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::codegen::http::{HeaderMap, Request, Response};

use super::super::{Address, Connection, Failure};

pub const PATH: &str = "/test.Test/Ask";
/// Longer than any test takes.
pub const LONG: Duration = Duration::from_secs(60);

/// A port.
pub struct Server {
    listener: TcpListener,
    pub address: Address,
}

/// What the client sees as its server: one connection that is driven in the background until it is dropped.
pub struct Peer {
    requests: mpsc::UnboundedReceiver<Asked>,
    orders: mpsc::UnboundedSender<Order>,
}

/// A request that came.
pub struct Asked {
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
}

enum Order {
    /// Says that it goes away.
    Leave,
    /// Breaks the connection.
    Break,
}

impl Server {
    pub async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&listener.local_addr().unwrap().to_string()).unwrap();
        Server { listener, address }
    }

    /// The next connection, as it is.
    pub async fn raw(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Serves the next connection.
    pub async fn accept(&self, builder: Builder) -> Peer {
        let stream = self.raw().await;
        let ((came, requests), (orders, mut order)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        tokio::spawn(async move {
            let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
            loop {
                tokio::select! {
                    next = connection.accept() => match next {
                        Some(Ok((request, respond))) => drop(came.send(Asked { request, respond })),
                        _ => return,
                    },
                    order = order.recv() => match order {
                        Some(Order::Leave) => connection.graceful_shutdown(),
                        Some(Order::Break) | None => return,
                    },
                }
            }
        });
        Peer { requests, orders }
    }
}

impl Peer {
    /// The next request.
    pub async fn next(&mut self) -> Asked {
        self.requests.recv().await.expect("the connection is open")
    }

    /// Whether no request came that was not taken yet.
    pub fn is_idle(&mut self) -> bool {
        self.requests.is_empty()
    }

    pub fn leave(&self) {
        self.orders.send(Order::Leave).unwrap();
    }

    pub fn break_off(&self) {
        self.orders.send(Order::Break).unwrap();
    }
}

impl Asked {
    /// The bytes of its body.
    pub async fn body(&mut self) -> Bytes {
        let mut body = BytesMut::new();
        while let Some(bytes) = self.request.body_mut().data().await {
            let bytes = bytes.unwrap();
            self.request.body_mut().flow_control().release_capacity(bytes.len()).unwrap();
            body.extend_from_slice(&bytes);
        }
        body.freeze()
    }

    /// Answers with these bytes and these trailers.
    pub fn answer(mut self, body: impl Into<Bytes>, trailers: &[(&'static str, &str)]) {
        let mut stream = self.respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(body.into(), false).unwrap();
        stream.send_trailers(headers(trailers)).unwrap();
    }

    /// Answers with the message that came.
    pub async fn echo(mut self) {
        let body = self.body().await;
        self.answer(body, OK);
    }

    /// Answers with a head and nothing more.
    pub fn answer_head(mut self, code: u16, head: &[(&'static str, &str)]) {
        let mut response = Response::new(());
        *response.status_mut() = code.try_into().unwrap();
        *response.headers_mut() = headers(head);
        self.respond.send_response(response, true).unwrap();
    }
}

/// Trailers of what went well.
pub const OK: &[(&str, &str)] = &[("grpc-status", "0")];

pub fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// A message of a text, framed.
pub fn framed(text: &str) -> Bytes {
    crate::grpc::frame(&text.to_owned())
}

/// The head of a frame of so many bytes.
pub fn head(compressed: u8, length: usize) -> BytesMut {
    let mut head = BytesMut::new();
    head.put_u8(compressed);
    head.put_u32(length as u32);
    head
}

/// A connection to a server, and the server's side of it.
pub async fn connected(builder: Builder) -> (Connection, Peer) {
    let server = Server::start().await;
    let (connection, peer) = tokio::join!(Connection::open(&server.address, LONG), server.accept(builder));
    (connection.unwrap(), peer)
}

/// Asks for a text with a text.
pub async fn ask(connection: &Connection, text: &str, time: Option<Duration>) -> Result<String, Failure> {
    connection.unary(PATH, &text.to_owned(), time).await
}

/// A request on its way.
pub fn asking(connection: &Connection, text: &str) -> tokio::task::JoinHandle<Result<String, Failure>> {
    let (connection, text) = (connection.clone(), text.to_owned());
    tokio::spawn(async move { ask(&connection, &text, None).await })
}

/// Waits until the client has noticed that the connection takes no more requests.
pub async fn closed(connection: &Connection) {
    while !connection.is_closed() {
        tokio::task::yield_now().await;
    }
}
