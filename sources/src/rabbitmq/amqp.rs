//! What of AMQP 0-9-1 a consumer needs and a publisher who wants confirms, with `RabbitMQ`'s extensions to it.
//!
//! Why not a client library: what is in a queue was put there by strangers. The ones that there are read the headers of a
//! message by recursion, so that a single message with tables nested some hundred deep overflows the stack and ends the whole
//! process, at each start again. They fail on names that are no UTF-8, so that such a message is never got rid of. They read
//! from the socket without a bound, and hold a thread and megabytes of buffers for each connection. Here nested tables are
//! passed over, names are bytes, and whoever calls says when there is room ([`Connection::next`]).
//!
//! Nothing here knows of events or of sources. References are to the specification of AMQP 0-9-1.

mod connection;
mod content;
mod frame;
mod method;
mod wire;

use std::io;
use std::time::Duration;

use thiserror::Error;

pub(crate) use connection::{Connection, Incoming, Login, Stream};
pub(crate) use content::{Delivery, Properties, Publication};
pub(crate) use method::Declaration;
pub(crate) use wire::{Field, MAX_SHORT, TableWriter};

/// `access-refused`: wrong credentials, or no right to what was asked.
pub(super) const ACCESS_REFUSED: u16 = 403;
/// `not-found`: no such exchange or queue.
pub(super) const NOT_FOUND: u16 = 404;
/// `precondition-failed`: among other things, a message that is larger than the server takes.
pub(crate) const PRECONDITION_FAILED: u16 = 406;
/// `not-allowed`: no such virtual host, or no right to enter it.
pub(super) const NOT_ALLOWED: u16 = 530;

/// Why a connection cannot be used any longer.
#[derive(Debug, Error)]
pub(crate) enum AmqpError {
    /// It broke.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// The server closed it, or a channel of it, and said why (section 1.2.1.1).
    #[error("the server answered {code}: {text}")]
    Refused {
        /// The reply code.
        code: u16,
        /// The server's words, on one line.
        text: String,
    },
    /// The server sent what it should not.
    #[error("the server breaks the protocol: {0}")]
    Violation(&'static str),
    /// Neither messages nor heartbeats came, or nothing can be sent.
    #[error("the server was silent for {0:?}")]
    Silent(Duration),
}

/// The properties of a message are larger than a frame, and cannot be split (section 4.2.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("its attributes are larger together than the server takes")]
pub(crate) struct LargeProperties;

#[cfg(test)]
pub(crate) mod tests;
