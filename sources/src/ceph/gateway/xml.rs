//! The XML of the gateway's APIs, so far as it is needed.

use std::collections::BTreeSet;

use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;

/// A notification on a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notification {
    /// What it is called.
    pub(super) id: String,
    /// The ARN of its topic.
    pub(super) topic: String,
    /// What is notified of.
    pub(super) events: BTreeSet<String>,
}

impl Notification {
    /// As S3's clients put it on a bucket.
    pub(super) fn write(&self) -> String {
        let (id, topic) = (escape(&*self.id), escape(&*self.topic));
        let events: String = self
            .events
            .iter()
            .map(|event| format!("<Event>{}</Event>", escape(&**event)))
            .collect();
        format!(
            r#"<NotificationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><TopicConfiguration><Id>{id}</Id><Topic>{topic}</Topic>{events}</TopicConfiguration></NotificationConfiguration>"#
        )
    }
}

/// The text of the first element of that name.
pub(super) fn text(xml: &str, name: &str) -> Option<String> {
    let mut found = None;
    walk(xml, |path, text| {
        if found.is_none() && path.last().is_some_and(|last| last == name) {
            found = Some(text.to_owned());
        }
    });
    found
}

/// The notifications on a bucket. Those that cannot be read are not there.
pub(super) fn read(xml: &str) -> Vec<Notification> {
    let mut found: Vec<Notification> = Vec::new();
    walk(xml, |path, text| {
        let [.., parent, name] = path else { return };
        if parent != "TopicConfiguration" {
            return;
        }
        // The id comes first, from this gateway and from S3.
        if name == "Id" {
            found.push(Notification { id: text.to_owned(), ..Notification::default() });
        }
        let Some(last) = found.last_mut() else { return };
        match name.as_str() {
            "Topic" => text.clone_into(&mut last.topic),
            "Event" => {
                last.events.insert(text.to_owned());
            }
            _ => {}
        }
    });
    found
}

/// Shows every text with the names of the elements it is in, as far as the document can be read. Names of ours have no
/// characters that would be written as references, so those are passed over.
fn walk(xml: &str, mut see: impl FnMut(&[String], &str)) {
    let mut reader = Reader::from_str(xml);
    let mut path = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => path.push(start.local_name().as_ref().to_owned()),
            Ok(Event::End(_)) => {
                path.pop();
            }
            Ok(Event::Text(text)) => see(&path, text.trim()),
            Ok(Event::Eof) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Notification, read, text};
    use std::collections::BTreeSet;

    const SHOWN: &str = r#"<?xml version="1.0" encoding="UTF-8"?><NotificationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <TopicConfiguration><Id>theirs</Id><Filter><S3Key><FilterRule><Name>prefix</Name><Value>a</Value></FilterRule></S3Key></Filter><Topic>arn:aws:sns:default::t</Topic><Event>s3:ObjectCreated:*</Event></TopicConfiguration>
        <TopicConfiguration><Id>ours</Id><Topic>arn:aws:sns:default::weft</Topic><Event>s3:ObjectRemoved:*</Event><Event>s3:ObjectCreated:*</Event></TopicConfiguration>
        </NotificationConfiguration>"#;

    fn ours() -> Notification {
        Notification {
            id: "ours".to_owned(),
            topic: "arn:aws:sns:default::weft".to_owned(),
            events: ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"].map(str::to_owned).into(),
        }
    }

    #[test]
    fn notifications_are_read_as_they_are_written() {
        assert_eq!(read(&ours().write()), [ours()]);
        let escaped = Notification { id: "a<b&c".to_owned(), ..ours() }.write();
        assert!(escaped.contains("<Id>a&lt;b&amp;c</Id>"), "{escaped}");
    }

    #[test]
    fn notifications_of_others_are_told_apart() {
        let shown = read(SHOWN);
        assert_eq!(shown.len(), 2);
        assert_eq!(shown[0].id, "theirs");
        assert_eq!(shown[0].events, BTreeSet::from(["s3:ObjectCreated:*".to_owned()]));
        assert_eq!(shown[1], ours());
    }

    #[test]
    fn what_is_no_xml_holds_nothing() {
        for xml in ["", "no", "<a>", "<a></b>", "<TopicConfiguration><Topic>x</Topic>", "\u{0}<"] {
            assert_eq!(read(xml), [], "{xml}");
        }
        let answer = "<CreateTopicResponse><CreateTopicResult><TopicArn>arn:x</TopicArn></CreateTopicResult></CreateTopicResponse>";
        assert_eq!(text(answer, "TopicArn").as_deref(), Some("arn:x"));
        assert_eq!(text(answer, "Other"), None);
    }
}
