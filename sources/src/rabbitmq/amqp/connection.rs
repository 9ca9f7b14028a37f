//! One connection: the handshake, questions and answers, heartbeats, deliveries.

use std::fmt;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::content::{Assembly, Delivery, Publication};
use super::frame::{self, Frame, Kind};
use super::method::{self, Declaration, Id};
use super::wire::{Reader, TableWriter, put_long, put_short};
use super::{AmqpError, LargeProperties};

/// The largest frame to agree on: `RabbitMQ` proposes 128 KiB. More would hold up heartbeats behind bodies.
const MAX_FRAME: u32 = 1 << 20;

/// The smallest that a server may ask for (section 4.2.3).
const LEAST_FRAME: u32 = 4096;

/// Frames before anything is agreed on: `connection.start` lists what the server can do, in well below a kilobyte.
const FIRST_FRAMES: usize = 64 << 10;

/// The largest body that is kept: `RabbitMQ` itself takes no larger message before version 4 (16 MiB since) unless it is told
/// to.
const MAX_BODY: u64 = 128 << 20;

/// Room to read into: a few hundred small messages. An idle connection touches one page of it.
const CHUNK: usize = 64 << 10;

/// How often heartbeats come if it is up to us: a network that is gone shows within a minute, and it costs nothing.
const HEARTBEAT: u16 = 20;

/// How long each answer may take until we are let in: whoever knows the users may be another server, and far away.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the server may take to say goodbye. A source has less than a second to stop.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(400);

/// What a connection runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who connects.
#[derive(Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) virtual_host: &'a str,
    /// What the server's operator sees in its lists.
    pub(crate) name: &'a str,
}

/// An open connection. Whoever drops it without [`Connection::close`] leaves a complaint in the server's log.
pub(crate) struct Connection {
    io: Box<dyn Stream>,
    input: BytesMut,
    output: BytesMut,
    /// Whether something was written and not flushed.
    unflushed: bool,
    /// Payloads that the server may send, in bytes, and those that it takes.
    limit: usize,
    room: usize,
    heartbeat: Duration,
    heard: Instant,
    spoke: Instant,
    /// Whether the last call did not read, so that silence means nothing.
    deaf: bool,
    /// The message whose frames are coming.
    assembly: Option<Assembly>,
}

/// What comes in.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message.
    Delivery(Delivery),
    /// The server ended the consumer: the queue was deleted, or the node it was on is gone.
    Cancelled,
    /// How many messages are ready in the queue that was asked about.
    Depth(u32),
    /// The server has taken, or has not, the message that was published as the one with this number, the first being 1; if
    /// `multiple`, that and all before it.
    Confirmed { number: u64, multiple: bool, taken: bool },
    /// A message that was published and that no queue gets, without its body. That the server has taken it comes next.
    Returned(Delivery),
}

/// The same, with answers as they come.
enum Event {
    Delivery(Delivery),
    Returned(Delivery),
    Cancelled,
    Method(Id, Bytes),
}

impl Connection {
    /// Shakes hands and opens the virtual host (section 2.2.4).
    ///
    /// # Errors
    /// [`AmqpError::Refused`] says why the server does not want this one; [`super::ACCESS_REFUSED`] are the credentials.
    pub(crate) async fn open(io: Box<dyn Stream>, login: Login<'_>) -> Result<Self, AmqpError> {
        let now = Instant::now();
        let mut connection = Self {
            io,
            input: BytesMut::new(),
            output: BytesMut::from(&b"AMQP\x00\x00\x09\x01"[..]),
            unflushed: false,
            limit: FIRST_FRAMES,
            room: FIRST_FRAMES,
            heartbeat: Duration::from_secs(HEARTBEAT.into()),
            heard: now,
            spoke: now,
            deaf: false,
            assembly: None,
        };
        let start = connection.answer(method::START, LOGIN_TIMEOUT).await?;
        can_be_told_a_password(&start)?;
        method::put(&mut connection.output, 0, method::START_OK, |out| login.write(out));
        let tune = connection.answer(method::TUNE, LOGIN_TIMEOUT).await?;
        connection.tune(&tune)?;
        method::put(&mut connection.output, 0, method::OPEN, |out| {
            put_short(out, login.virtual_host);
            // Both are reserved.
            put_short(out, "");
            out.put_u8(0);
        });
        connection.answer(method::OPEN_OK, LOGIN_TIMEOUT).await?;
        Ok(connection)
    }

    /// Asks for something and awaits that it is so, for as long as `patience`. Not while messages are delivered.
    ///
    /// # Errors
    /// [`AmqpError::Refused`] says why it is not so; the connection is of no use afterwards.
    pub(crate) async fn declare(
        &mut self,
        channel: u16,
        what: &Declaration<'_>,
        patience: Duration,
    ) -> Result<(), AmqpError> {
        self.ask(channel, what);
        self.answer(what.ids().1, patience).await.map(drop)
    }

    /// Asks for something; that it cannot be comes out of [`Connection::next`].
    pub(crate) fn ask(&mut self, channel: u16, what: &Declaration<'_>) {
        method::put(&mut self.output, channel, what.ids().0, |out| what.write(out));
    }

    /// Acknowledges this message and all before it. Sent with the next call of [`Connection::next`].
    pub(crate) fn acknowledge(&mut self, channel: u16, tag: u64) {
        method::put_ack(&mut self.output, channel, tag, true);
    }

    /// Gives up a message. Sent with the next call of [`Connection::next`].
    pub(crate) fn reject(&mut self, channel: u16, tag: u64) {
        method::put_reject(&mut self.output, channel, tag);
    }

    /// Publishes a message that has to go to a queue. Sent with the next call of [`Connection::next`].
    ///
    /// # Errors
    /// When its properties do not fit into a frame; then nothing is sent.
    pub(crate) fn publish(
        &mut self,
        channel: u16,
        exchange: &str,
        message: &Publication,
    ) -> Result<(), LargeProperties> {
        let header = message.header(self.room)?;
        method::put_publish(&mut self.output, channel, exchange, &message.routing_key);
        frame::put(&mut self.output, Kind::Header, channel, |out| out.put_slice(&header));
        for part in message.body.chunks(self.room) {
            frame::put(&mut self.output, Kind::Body, channel, |out| out.put_slice(part));
        }
        Ok(())
    }

    /// Bytes that are still to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.output.len()
    }

    /// What comes next. Without `reading` nothing is taken off the socket, so that the server has to hold back, and the call
    /// only keeps the connection alive. Can be dropped and called again.
    ///
    /// # Errors
    /// When the connection is of no use any longer.
    pub(crate) async fn next(&mut self, reading: bool) -> Result<Incoming, AmqpError> {
        loop {
            let event = self.event(reading).await?;
            if let Some(incoming) = incoming(event)? {
                return Ok(incoming);
            }
        }
    }

    /// What has come already, if anything has.
    ///
    /// # Errors
    /// As [`Connection::next`].
    pub(crate) fn buffered(&mut self) -> Result<Option<Incoming>, AmqpError> {
        while let Some(event) = self.parse()? {
            if let Some(incoming) = incoming(event)? {
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }

    /// Says goodbye, and waits a moment for the server to say so too: then it has got the acknowledgements.
    pub(crate) async fn close(mut self) {
        method::put(&mut self.output, 0, method::CLOSE, |out| {
            out.put_u16(200);
            put_short(out, "");
            // No method is to blame.
            out.put_u32(0);
        });
        // Deliveries that are still coming are dropped; the server gives them to others.
        let goodbye = async {
            while !matches!(self.event(true).await, Ok(Event::Method(method::CLOSE_OK, _)) | Err(_))
            {
            }
        };
        drop(timeout(CLOSE_TIMEOUT, goodbye).await);
    }

    fn tune(&mut self, arguments: &[u8]) -> Result<(), AmqpError> {
        let mut reader = Reader::new(arguments);
        let (channels, frame, heartbeat) = (reader.u16()?, reader.u32()?, reader.u16()?);
        // Zero stands for no limit, and for no heartbeat.
        let frame = if frame == 0 { MAX_FRAME } else { frame.clamp(LEAST_FRAME, MAX_FRAME) };
        let heartbeat = if heartbeat == 0 { HEARTBEAT } else { heartbeat.min(HEARTBEAT) };
        method::put(&mut self.output, 0, method::TUNE_OK, |out| {
            out.put_u16(channels);
            out.put_u32(frame);
            out.put_u16(heartbeat);
        });
        // Headers are never split, and RabbitMQ adds to them what happened to a message: they may outgrow what was agreed.
        let frame = usize::try_from(frame).unwrap_or(usize::MAX);
        (self.limit, self.room) = (frame.saturating_mul(2), frame - frame::OVERHEAD);
        self.heartbeat = Duration::from_secs(heartbeat.into());
        Ok(())
    }

    async fn answer(&mut self, awaited: Id, patience: Duration) -> Result<Bytes, AmqpError> {
        match timeout(patience, self.event(true)).await {
            Ok(Ok(Event::Method(id, arguments))) if id == awaited => Ok(arguments),
            Ok(Ok(_)) => Err(AmqpError::Violation("it answers something else")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(AmqpError::Silent(patience)),
        }
    }

    async fn event(&mut self, reading: bool) -> Result<Event, AmqpError> {
        if reading && self.deaf {
            self.heard = Instant::now();
        }
        self.deaf = !reading;
        loop {
            if reading && let Some(event) = self.parse()? {
                return Ok(event);
            }
            self.flush().await?;
            // Twice as often as the server expects, and half as often as it may come (section 4.2.7).
            let speak = self.spoke + self.heartbeat / 2;
            let silent = self.heard + self.heartbeat * 2;
            let wake = if reading { speak.min(silent) } else { speak };
            if self.input.capacity() - self.input.len() < CHUNK / 4 {
                self.input.reserve(CHUNK);
            }
            tokio::select! {
                biased;
                read = self.io.read_buf(&mut self.input), if reading => {
                    if read? == 0 {
                        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                    }
                    self.heard = Instant::now();
                }
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    if reading && now >= silent {
                        return Err(AmqpError::Silent(self.heartbeat * 2));
                    }
                    if now >= speak {
                        frame::put(&mut self.output, Kind::Heartbeat, 0, |_| ());
                    }
                }
            }
        }
    }

    /// Sends what is to be sent. What was sent when the call is dropped is not sent again.
    async fn flush(&mut self) -> Result<(), AmqpError> {
        if self.output.is_empty() && !self.unflushed {
            return Ok(());
        }
        self.unflushed = true;
        let send = async {
            self.io.write_all_buf(&mut self.output).await?;
            self.io.flush().await
        };
        let limit = self.heartbeat * 2;
        timeout(limit, send).await.map_err(|_| AmqpError::Silent(limit))??;
        self.unflushed = false;
        self.spoke = Instant::now();
        Ok(())
    }

    /// The next event that is in the buffer as a whole.
    fn parse(&mut self) -> Result<Option<Event>, AmqpError> {
        while let Some(frame) = frame::take(&mut self.input, self.limit)? {
            if let Some(event) = self.understand(frame)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn understand(&mut self, frame: Frame) -> Result<Option<Event>, AmqpError> {
        let Frame { kind, channel, payload } = frame;
        let unasked = AmqpError::Violation("a content comes that no method announced");
        match kind {
            Kind::Heartbeat => return Ok(None),
            Kind::Method => return self.obey(channel, &payload),
            Kind::Header => {
                self.assembly.as_mut().ok_or(unasked)?.header(&payload, MAX_BODY)?;
            }
            Kind::Body => self.assembly.as_mut().ok_or(unasked)?.body(payload)?,
        }
        let whole = self.assembly.take_if(|assembly| assembly.is_whole());
        Ok(whole.map(|assembly| {
            if assembly.is_returned() {
                Event::Returned(assembly.finish())
            } else {
                Event::Delivery(assembly.finish())
            }
        }))
    }

    fn obey(&mut self, channel: u16, payload: &Bytes) -> Result<Option<Event>, AmqpError> {
        let (id, arguments) = method::read(payload)?;
        match id {
            method::CLOSE | method::CHANNEL_CLOSE => {
                tracing::debug!(channel, "closed by the server");
                Err(method::refusal(&arguments))
            }
            method::DELIVER => {
                self.assembly = Some(Assembly::new(&arguments)?);
                Ok(None)
            }
            method::RETURN => {
                self.assembly = Some(Assembly::returned(&arguments)?);
                Ok(None)
            }
            method::CANCEL => Ok(Some(Event::Cancelled)),
            method::BLOCKED | method::UNBLOCKED => Ok(None),
            id => Ok(Some(Event::Method(id, arguments))),
        }
    }
}

/// What is of interest once everything is declared.
fn incoming(event: Event) -> Result<Option<Incoming>, AmqpError> {
    Ok(match event {
        Event::Delivery(delivery) => Some(Incoming::Delivery(delivery)),
        Event::Cancelled => Some(Incoming::Cancelled),
        Event::Returned(delivery) => Some(Incoming::Returned(delivery)),
        Event::Method(method::QUEUE_DECLARE_OK, answer) => {
            Some(Incoming::Depth(method::depth(&answer)?))
        }
        Event::Method(id @ (method::ACK | method::NACK), arguments) => {
            let (number, multiple) = method::confirmed(&arguments)?;
            Some(Incoming::Confirmed { number, multiple, taken: id == method::ACK })
        }
        // That the prefetch changed, or that a consumer ended as it should.
        Event::Method(..) => None,
    })
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Buffers hold messages, and during the handshake the password.
        f.debug_struct("Connection").field("heartbeat", &self.heartbeat).finish_non_exhaustive()
    }
}

impl Login<'_> {
    /// The arguments of `connection.start-ok`.
    fn write(&self, out: &mut BytesMut) {
        // Without these the server hangs up on wrong credentials without a word, says nothing when a queue is deleted, and
        // may not say that it has not taken a message.
        let capabilities = TableWriter::default()
            .flag("authentication_failure_close")
            .flag("consumer_cancel_notify")
            .flag("publisher_confirms")
            .flag("basic.nack");
        let properties = TableWriter::default()
            .text("product", "Weft")
            .text("version", env!("CARGO_PKG_VERSION"))
            .text("connection_name", self.name)
            .table("capabilities", &capabilities);
        put_long(out, &properties.finish());
        put_short(out, "PLAIN");
        put_long(out, format!("\0{}\0{}", self.user, self.password).as_bytes());
        put_short(out, "en_US");
    }
}

fn can_be_told_a_password(start: &[u8]) -> Result<(), AmqpError> {
    let mut reader = Reader::new(start);
    // The version, then what the server says of itself.
    reader.take(2)?;
    reader.table()?;
    let mechanisms = reader.long()?;
    let plain = mechanisms.split(|byte| *byte == b' ').any(|mechanism| mechanism == b"PLAIN");
    if plain { Ok(()) } else { Err(AmqpError::Violation("it does not take a user and a password")) }
}
