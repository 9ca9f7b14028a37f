//! What is remembered: how far each watch came, and which objects it has told of. Pure.
//!
//! A version alone lets a watch go on where it ended, as long as the server still has what came after, some minutes. Beyond that
//! only a list helps, which knows neither what was deleted nor what was told before: therefore the objects are remembered too.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::event::Verb;
use super::object::{Kind, Object};
use super::watch::Collection;

/// How many objects one source remembers. The whole of it is written with each batch of events: some 100 bytes an object make
/// a megabyte, and that takes about ten milliseconds.
pub(super) const MAX_KNOWN: usize = 10_000;

/// What one source remembers.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// By the watch's [key](super::watch::Collection::key).
    #[serde(default)]
    watches: BTreeMap<String, Place>,
}

/// How far one watch came.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    /// All that happened up to this version is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// What is there at the start is not told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    quiet: bool,
    /// The objects that are there, as far as was told, by `namespace/name`; nothing when they became too many.
    known: Option<BTreeMap<String, Known>>,
    /// Whether `known` is being gathered again after it was given up, and does not say yet what was told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gathering: bool,
    /// What the list that is being read has.
    #[serde(skip)]
    listed: BTreeSet<String>,
}

/// An incarnation of an object, and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known(String, String);

/// What is to be told.
pub(super) type Told = (Verb, Object);

impl Default for Place {
    fn default() -> Self {
        Self {
            version: None,
            quiet: false,
            known: Some(BTreeMap::new()),
            gathering: false,
            listed: BTreeSet::new(),
        }
    }
}

impl Known {
    fn of(object: &Object) -> Self {
        Self(object.uid.clone(), object.version.clone())
    }

    fn object(self, name: &str, kind: &Kind, whole: bool) -> Object {
        let name = name.split_once('/').unwrap_or(("", name));
        Object::remembered(kind, name, (self.0, self.1), whole)
    }
}

impl State {
    /// Makes the watches those of `collections`. Of what the new ones find at first nothing is told if they are `quiet`.
    pub(super) fn begin(&mut self, collections: &[Collection], quiet: bool) {
        let mut before = std::mem::take(&mut self.watches);
        for key in collections.iter().map(Collection::key) {
            let place = before.remove(&key);
            self.watches.insert(key, place.unwrap_or(Place { quiet, ..Place::default() }));
        }
    }

    /// The watches there are.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.watches.keys().map(String::as_str)
    }

    /// The version that a watch goes on from; nothing before its first list.
    pub(super) fn version(&self, key: &str) -> Option<&str> {
        self.watches.get(key)?.version.as_deref()
    }

    /// Whether every object is remembered.
    pub(super) fn is_whole(&self) -> bool {
        self.watches.values().all(|place| place.known.is_some() && !place.gathering)
    }

    /// A list begins, or begins again.
    pub(super) fn list(&mut self, key: &str) {
        let place = self.place(key);
        place.listed.clear();
        if place.known.is_none() || place.gathering {
            (place.known, place.gathering) = (Some(BTreeMap::new()), true);
        }
    }

    /// An object of the list. `wanted` says whether the source tells of such objects at all.
    pub(super) fn listed(
        &mut self,
        key: &str,
        object: Object,
        wanted: bool,
        kind: &Kind,
    ) -> Vec<Told> {
        let room = self.has_room();
        let place = self.place(key);
        let name = name(&object);
        if !wanted {
            place.forget(&name);
            return Vec::new();
        }
        place.listed.insert(name.clone());
        let trusted = !place.gathering && place.known.is_some();
        let known = place.keep(&name, &object, room);
        if place.quiet {
            return Vec::new();
        }
        if !trusted {
            // Whether it is new cannot be known; an update is right for those who have it and for those who have not.
            return match &place.version {
                None => vec![(Verb::Add, object)],
                Some(version) if is_newer(&object.version, version) => vec![(Verb::Update, object)],
                Some(_) => Vec::new(),
            };
        }
        match known {
            None => vec![(Verb::Add, object)],
            Some(known) if known == Known::of(&object) => Vec::new(),
            Some(known) if known.0 == object.uid => vec![(Verb::Update, object)],
            // Another one of that name: its predecessor goes before it comes.
            Some(known) => {
                let whole = !object.json.is_empty();
                vec![(Verb::Delete, known.object(&name, kind, whole)), (Verb::Add, object)]
            }
        }
    }

    /// The list is complete, as of `version`; answers what is no longer there.
    pub(super) fn complete(
        &mut self,
        key: &str,
        version: String,
        kind: &Kind,
        whole: bool,
    ) -> Vec<Told> {
        let place = self.place(key);
        let listed = std::mem::take(&mut place.listed);
        let mut gone = Vec::new();
        if let Some(known) = &mut place.known {
            for (name, known) in known.extract_if(.., |name, _| !listed.contains(name)) {
                gone.push((Verb::Delete, known.object(&name, kind, whole)));
            }
        }
        place.version = Some(version);
        (place.quiet, place.gathering) = (false, false);
        gone
    }

    /// Something happened to an object; answers with it, unless that is told already. A server whose pages are not all of one
    /// moment repeats after a list what the later ones had.
    pub(super) fn changed(
        &mut self,
        key: &str,
        verb: Verb,
        object: Object,
        wanted: bool,
    ) -> Option<Told> {
        let room = self.has_room();
        let place = self.place(key);
        let name = name(&object);
        place.version = Some(object.version.clone());
        let news = place.is_news(&name, verb, &object);
        if !wanted || (news && verb == Verb::Delete) {
            place.forget(&name);
        } else if news {
            place.keep(&name, &object, room);
        }
        (wanted && news).then_some((verb, object))
    }

    /// Up to `version` nothing else happened; answers whether that is news.
    pub(super) fn marked(&mut self, key: &str, version: String) -> bool {
        let place = self.place(key);
        let news = place.version.as_ref() != Some(&version);
        place.version = Some(version);
        news
    }

    /// A watch ends because its namespace is gone; answers what went with it.
    pub(super) fn vanish(&mut self, key: &str, kind: &Kind, whole: bool) -> Vec<Told> {
        let known = self.watches.remove(key).and_then(|place| place.known);
        let gone = known.unwrap_or_default().into_iter();
        gone.map(|(name, known)| (Verb::Delete, known.object(&name, kind, whole))).collect()
    }

    fn has_room(&self) -> bool {
        let count = |place: &Place| place.known.as_ref().map_or(0, BTreeMap::len);
        self.watches.values().map(count).sum::<usize>() < MAX_KNOWN
    }

    fn place(&mut self, key: &str) -> &mut Place {
        // One that was not begun would be told of from its first list on.
        self.watches.entry(key.to_owned()).or_default()
    }
}

impl Place {
    /// Remembers an object; answers what was known of it. Without room nothing of this watch is remembered any more, for half
    /// of it says nothing of the other half.
    fn keep(&mut self, name: &str, object: &Object, room: bool) -> Option<Known> {
        let known = self.known.as_mut()?;
        if !room && !known.contains_key(name) {
            self.known = None;
            return None;
        }
        known.insert(name.to_owned(), Known::of(object))
    }

    /// Whether what happened comes after what is known. Of what is not remembered, everything does.
    fn is_news(&self, name: &str, verb: Verb, object: &Object) -> bool {
        let Some(known) = &self.known else { return true };
        let known = known.get(name).filter(|known| known.0 == object.uid);
        match (verb, known) {
            // Nobody was told that it was there, or that it is gone already.
            (Verb::Delete, None) => false,
            (Verb::Delete, Some(_)) | (_, None) => true,
            (_, Some(known)) => is_newer(&object.version, &known.1),
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(known) = &mut self.known {
            known.remove(name);
        }
    }
}

fn name(object: &Object) -> String {
    format!("{}/{}", object.namespace, object.name)
}

/// Whether one version of the objects of a kind comes after another. Versions that are no numbers do, for all that is known.
fn is_newer(one: &str, other: &str) -> bool {
    match (one.parse::<u128>(), other.parse::<u128>()) {
        (Ok(one), Ok(other)) => one > other,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
