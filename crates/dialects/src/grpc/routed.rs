//! Answers of services as they were generated: a head, and a body that may go on for long.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http_body::{Body as HttpBody, Frame};
use kv::Share;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::Response;

use super::unary::held;

/// What comes next of a body; `None` = that was all.
type Next = Option<Result<Frame<Bytes>, Status>>;

/// Sends an answer as it comes, until the client does not want it any more.
pub(super) async fn send(
    answer: impl Future<Output = Result<Response<Body>, Infallible>>,
    mut respond: SendResponse<Bytes>,
) {
    let mut answer = pin!(answer);
    let answer = poll_fn(|cx| match respond.poll_reset(cx) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => answer.as_mut().poll(cx).map(Result::ok),
    });
    let Some(answer) = answer.await else { return };
    let (mut head, body) = answer.into_parts();
    let share = head.extensions.remove::<Share>();
    let is_whole = body.is_end_stream();
    // An error says that the client has gone away.
    let Ok(stream) = respond.send_response(Response::from_parts(head, ()), is_whole) else { return };
    if !is_whole {
        let _ = send_body(body, stream, share).await;
    }
}

/// Sends all of a body. Each piece counts until it has left: a body that goes on holds nothing while it is quiet.
async fn send_body(
    body: Body,
    mut stream: SendStream<Bytes>,
    mut share: Option<Share>,
) -> Result<(), h2::Error> {
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| poll_wanted(&mut stream, body.as_mut(), cx)).await?;
        let frame = match frame {
            None => return stream.send_data(Bytes::new(), true),
            Some(Ok(frame)) => frame,
            Some(Err(_)) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
        };
        match frame.into_data() {
            Ok(bytes) => {
                has_room(&mut stream).await?;
                let bytes = match &mut share {
                    Some(share) => {
                        let next = share.another();
                        held(bytes, &std::mem::replace(share, next))
                    }
                    None => bytes,
                };
                stream.send_data(bytes, false)?;
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return stream.send_trailers(trailers);
                }
            }
        }
    }
}

/// The next frame of a body, as long as the client wants it.
fn poll_wanted(
    stream: &mut SendStream<Bytes>,
    body: Pin<&mut Body>,
    cx: &mut Context<'_>,
) -> Poll<Result<Next, h2::Error>> {
    match stream.poll_reset(cx) {
        Poll::Ready(reset) => Poll::Ready(Err(reset.map_or_else(|error| error, h2::Error::from))),
        Poll::Pending => body.poll_frame(cx).map(Ok),
    }
}

/// Waits until the client takes more: a body that goes on is not read ahead of it.
async fn has_room(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    // As much as shows that there is some: what is sent then asks for the room it needs.
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
        room.ok_or_else(|| h2::Error::from(Reason::CANCEL))??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::time::Duration;

    use h2::RecvStream;
    use h2::client::{self, ResponseFuture};
    use tokio::io::duplex;
    use tokio::time::timeout;
    use tonic::codegen::http::{HeaderMap, Request};

    use super::*;

    const WINDOW_BYTES: usize = 10;
    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(60);

    /// A client whose window is small, and its only request at the server.
    async fn asked() -> (ResponseFuture, SendStream<Bytes>, SendResponse<Bytes>) {
        let (near, far) = duplex(1 << 16);
        let mut builder = client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES as u32);
        let serve = async {
            let mut connection = h2::server::handshake(far).await.unwrap();
            let (_, respond) = connection.accept().await.unwrap().unwrap();
            tokio::spawn(async move { while connection.accept().await.is_some() {} });
            respond
        };
        let ask = async {
            let (requests, connection) = builder.handshake::<_, Bytes>(near).await.unwrap();
            tokio::spawn(connection);
            let mut requests = requests.ready().await.unwrap();
            requests.send_request(Request::new(()), false).unwrap()
        };
        let (respond, (response, stream)) = tokio::join!(serve, ask);
        (response, stream, respond)
    }

    /// A body that goes on with so many pieces of the window's size, and never ends when there is no end of them.
    struct Pieces {
        left: usize,
        taken: Arc<()>,
        ends: bool,
    }

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.left > 0 {
                self.left -= 1;
                let piece = Bytes::from_owner(Piece([7; WINDOW_BYTES], self.taken.clone()));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match std::mem::replace(&mut self.ends, false) {
                true => Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new())))),
                false => Poll::Pending,
            }
        }
    }

    struct Piece([u8; WINDOW_BYTES], #[expect(dead_code, reason = "it is counted")] Arc<()>);

    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    async fn next(body: &mut RecvStream) -> Option<Bytes> {
        let bytes = body.data().await?.unwrap();
        body.flow_control().release_capacity(bytes.len()).unwrap();
        Some(bytes)
    }

    #[tokio::test]
    async fn body_is_not_read_ahead_of_the_client_and_comes_whole() {
        let (response, _stream, respond) = asked().await;
        let taken = Arc::new(());
        let body = Pieces { left: 20, taken: taken.clone(), ends: true };
        tokio::spawn(send(async { Ok(Response::new(Body::new(body))) }, respond));
        let mut body = response.await.unwrap().into_body();
        settle().await;
        // The body has one clone itself; one piece is in the client's window, and one waits.
        assert!(Arc::strong_count(&taken) <= 4, "{} pieces were read", Arc::strong_count(&taken) - 2);
        let mut all = 0;
        while let Some(piece) = next(&mut body).await {
            all += piece.len();
        }
        assert_eq!(all, 20 * WINDOW_BYTES);
        assert!(body.trailers().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn body_that_goes_on_holds_nothing_while_it_is_quiet() {
        let (response, _stream, respond) = asked().await;
        let budget = kv::Budget::new(1 << 20);
        let body = Pieces { left: 3, taken: Arc::default(), ends: false };
        let mut answer = Response::new(Body::new(body));
        answer.extensions_mut().insert(budget.share());
        tokio::spawn(send(async { Ok(answer) }, respond));
        let mut body = response.await.unwrap().into_body();
        for _ in 0..3 {
            assert!(next(&mut body).await.is_some());
            settle().await;
        }
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn what_the_client_does_not_want_any_more_is_given_up() {
        // Before the answer has begun, while it has nothing to say, and while the client takes nothing.
        for (has_begun, left) in [(false, 0), (true, 0), (true, 20)] {
            let (response, mut stream, respond) = asked().await;
            let body = Pieces { left, taken: Arc::default(), ends: false };
            let answer = async move {
                match has_begun {
                    true => Ok(Response::new(Body::new(body))),
                    false => pending().await,
                }
            };
            let sending = tokio::spawn(send(answer, respond));
            settle().await;
            assert!(!sending.is_finished());
            stream.send_reset(Reason::CANCEL);
            timeout(LONG, sending).await.expect("it is given up").unwrap();
            drop(response);
        }
    }
}
