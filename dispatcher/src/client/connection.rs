//! One connection: writes requests, reads answers, one at a time.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::{Framing, Head, Malformed, Step, take_head};

/// Room that is made for what is read: heads of answers and short replies fit.
const READ: usize = 4 << 10;

/// The same while a body is read.
const READ_BODY: usize = 32 << 10;

/// The connection as the connector makes it.
pub(super) type Stream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// The other side closed the connection in good order, but too soon.
    #[error("the connection was closed before the end of the answer")]
    Closed,
    /// What came is no HTTP/1.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// A request that was not answered.
pub(super) struct Unanswered {
    pub(super) error: ExchangeError,
    /// Whether the other side cannot have seen anything of it.
    pub(super) unsent: bool,
}

/// A request as it goes over the wire.
pub(crate) struct Message {
    /// Its head, up to and with the empty line.
    pub(crate) head: Vec<u8>,
    pub(super) body: Bytes,
}

pub(super) struct Connection {
    stream: Stream,
    /// What was read and not taken yet.
    read: BytesMut,
    /// Whether another request can follow once the body of this answer is read.
    keep: bool,
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, read: BytesMut::new(), keep: true }
    }

    /// Sends a request and reads the head of its answer. The answer may come before the request is all written; then nothing
    /// else can be sent over the connection.
    pub(super) async fn exchange(&mut self, message: &Message) -> Result<Head, Unanswered> {
        let mut unsent = Buf::chain(&*message.head, &*message.body);
        let whole = unsent.remaining();
        let mut broken = None;
        let result = poll_fn(|context| {
            let written = if broken.is_some() {
                Poll::Pending
            } else {
                match self.poll_write(context, &mut unsent) {
                    // Who refuses a request by closing may have said why.
                    Poll::Ready(Err(error)) => {
                        broken = Some(error);
                        Poll::Pending
                    }
                    Poll::Ready(Ok(())) => Poll::Ready(()),
                    Poll::Pending => Poll::Pending,
                }
            };
            let mut head = ready!(self.poll_head(context))?;
            head.keep &= written.is_ready();
            Poll::Ready(Ok(head))
        })
        .await;
        match result {
            Ok(head) => {
                self.keep = head.keep;
                Ok(head)
            }
            Err(error) => Err(Unanswered {
                error: broken.map_or(error, ExchangeError::Broken),
                unsent: unsent.remaining() == whole,
            }),
        }
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        unsent: &mut impl Buf,
    ) -> Poll<io::Result<()>> {
        while unsent.has_remaining() {
            let mut parts = [IoSlice::new(&[]); 2];
            let count = unsent.chunks_vectored(&mut parts);
            let parts = parts.get(..count).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            unsent.advance(written);
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, ExchangeError>> {
        loop {
            if !self.read.is_empty()
                && let Some(head) = take_head(&mut self.read)?
            {
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_read(context, READ))? == 0 {
                return Poll::Ready(Err(ExchangeError::Closed));
            }
        }
    }

    /// The next part of a body; `None` after its end.
    pub(super) fn poll_body(
        &mut self,
        framing: &mut Framing,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, ExchangeError>> {
        loop {
            match framing.step(&mut self.read)? {
                Step::Data(data) => return Poll::Ready(Ok(Some(data))),
                Step::End => return Poll::Ready(Ok(None)),
                Step::More => {}
            }
            if ready!(self.poll_read(context, READ_BODY))? == 0 {
                if *framing != Framing::Close {
                    return Poll::Ready(Err(ExchangeError::Closed));
                }
                *framing = Framing::Length(0);
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.read.reserve(room);
        pin!(self.stream.read_buf(&mut self.read)).poll(context)
    }

    /// Whether the exchange is over, and another may follow.
    pub(super) fn is_done(&self) -> bool {
        self.keep && self.read.is_empty()
    }

    /// Whether another request could go over it: neither closed nor anything there that nobody asked for.
    pub(super) fn is_usable(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.is_done() && self.poll_read(&mut context, 1).is_pending()
    }

    /// Gives back what a long answer took.
    pub(super) fn rest(&mut self) {
        if self.read.capacity() > READ {
            self.read = BytesMut::new();
        }
    }

    /// Says goodbye, as TLS wants it.
    pub(super) async fn close(mut self) {
        if let Err(error) = self.stream.shutdown().await {
            tracing::debug!(%error, "an unused connection broke");
        }
    }
}
