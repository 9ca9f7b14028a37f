//! From events to messages (AMQP protocol binding of `CloudEvents` 1.0, as far as AMQP 0-9-1 has what it speaks of).

use broker_event::{Event, json};
use thiserror::Error;

use crate::message::{STRUCTURED, attributes, fingerprint, has_binary_mode};
use crate::rabbitmq::amqp::{MAX_SHORT, Publication, TableWriter};

/// What the headers of attributes start with (3.1.3.1): of both spellings the one that the binding prefers.
const PREFIX: &str = "cloudEvents_";

/// Why an event has no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unwritable {
    /// AMQP has no room for the content type.
    #[error("the content type is longer than {MAX_SHORT} bytes, which is what AMQP has room for")]
    ContentType,
    /// AMQP has no room for the type as a routing key.
    #[error("the type is longer than {MAX_SHORT} bytes, which is the longest routing key of AMQP")]
    RoutingKey,
}

/// The message of an event. Without a `routing_key` it has the type of the event as its key.
pub(super) fn message(event: &Event, routing_key: &str) -> Result<Publication, Unwritable> {
    let routing_key = if routing_key.is_empty() { event.ty() } else { routing_key };
    if routing_key.len() > MAX_SHORT {
        return Err(Unwritable::RoutingKey);
    }
    let binary = has_binary_mode(event);
    let content_type = if binary { event.data_content_type() } else { Some(STRUCTURED) };
    if content_type.is_some_and(|text| text.len() > MAX_SHORT) {
        return Err(Unwritable::ContentType);
    }
    let mut headers = TableWriter::default();
    if binary {
        for (name, value) in attributes(event) {
            headers = headers.text(&format!("{PREFIX}{name}"), &value);
        }
    }
    let body =
        if binary { event.data().cloned().unwrap_or_default() } else { json::write(event).into() };
    Ok(Publication {
        routing_key: routing_key.to_owned(),
        content_type: content_type.map(str::to_owned),
        headers: headers.finish(),
        message_id: fingerprint(event),
        body,
    })
}

#[cfg(test)]
mod tests {
    use broker_event::EventBuilder;

    use super::{Unwritable, message};

    fn builder() -> EventBuilder {
        EventBuilder::new("1", "/s", "order.new").data_content_type("text/plain").data("hello")
    }

    #[test]
    fn a_message_has_attributes_in_headers_and_the_data_as_it_is() {
        let message = message(&builder().build().unwrap(), "").unwrap();
        assert_eq!(message.routing_key, "order.new");
        assert_eq!(message.content_type.as_deref(), Some("text/plain"));
        assert_eq!(message.body, "hello");
        let headers = String::from_utf8_lossy(&message.headers).into_owned();
        assert!(headers.contains("cloudEvents_id") && headers.contains("cloudEvents_specversion"));
    }

    #[test]
    fn an_event_in_an_event_is_written_as_a_whole() {
        let nested = builder().data_content_type("application/cloudevents+json").data("{}");
        let message = message(&nested.build().unwrap(), "k").unwrap();
        assert_eq!(message.routing_key, "k");
        assert_eq!(message.content_type.as_deref(), Some("application/cloudevents+json"));
        assert!(message.headers.is_empty() && message.body.starts_with(b"{\"specversion\""));
    }

    #[test]
    fn what_amqp_has_no_room_for_is_refused() {
        let long = "x".repeat(256);
        let of = |builder: EventBuilder, key| message(&builder.build().unwrap(), key).map(drop);
        assert_eq!(of(builder().ty(long.as_str()), ""), Err(Unwritable::RoutingKey));
        assert_eq!(of(builder().ty(long.as_str()), "k"), Ok(()));
        let media_type = format!("text/{long}");
        assert_eq!(of(builder().data_content_type(media_type), ""), Err(Unwritable::ContentType));
    }
}
