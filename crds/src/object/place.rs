//! Where a value stands within an object.

use std::fmt::{self, Display};

use serde_json::Value;

/// Fields whose keys are the user's own, not the names of fields.
const MAPS: [&str; 12] = [
    "labels",
    "annotations",
    "data",
    "stringData",
    "binaryData",
    "attributes",
    "exact",
    "prefix",
    "suffix",
    "extensions",
    "namespaceDefaults",
    "brokerClasses",
];

/// A place, as the way to it from the place above.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// The whole.
    Root,
    /// What is under a key.
    Key(&'a Place<'a>, &'a str),
    /// An item of a list.
    Index(&'a Place<'a>, usize),
}

/// A step on the way to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl Place<'_> {
    /// The way to it.
    pub(super) fn segments(&self) -> Vec<Segment> {
        let (mut segments, mut place) = (Vec::new(), self);
        loop {
            place = match place {
                Place::Root => break,
                Place::Key(above, key) => {
                    segments.push(Segment::Key((*key).to_owned()));
                    above
                }
                Place::Index(above, index) => {
                    segments.push(Segment::Index(*index));
                    above
                }
            };
        }
        segments.reverse();
        segments
    }
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&path(&self.segments()))
    }
}

/// The place in words, as Kubernetes names it.
pub(super) fn path(segments: &[Segment]) -> String {
    let (mut path, mut parent) = (String::new(), None);
    for segment in segments {
        match segment {
            Segment::Index(index) => {
                path.push_str(&format!("[{index}]"));
                parent = None;
            }
            Segment::Key(key) => {
                push_key(&mut path, parent, key);
                parent = Some(key.as_str());
            }
        }
    }
    path
}

fn push_key(path: &mut String, parent: Option<&str>, key: &str) {
    if parent.is_some_and(|parent| MAPS.contains(&parent)) {
        path.push('[');
        path.push_str(key);
        path.push(']');
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    }
}

/// What is there.
pub(super) fn find<'v>(root: &'v Value, segments: &[Segment]) -> Option<&'v Value> {
    segments.iter().try_fold(root, |value, segment| match segment {
        Segment::Index(index) => value.get(index),
        Segment::Key(key) => value.get(key),
    })
}

/// Makes a value absent. An item of a list becomes empty instead, so that the numbers of the others stay.
pub(super) fn take_away(root: &mut Value, segments: &[Segment]) -> bool {
    let Some(last) = segments.last() else { return false };
    let found = segments.iter().try_fold(root, |value, segment| match segment {
        Segment::Index(index) => value.get_mut(index),
        Segment::Key(key) => value.get_mut(key),
    });
    let Some(found) = found else { return false };
    *found = match last {
        Segment::Index(_) => Value::Object(serde_json::Map::new()),
        Segment::Key(_) => Value::Null,
    };
    true
}
