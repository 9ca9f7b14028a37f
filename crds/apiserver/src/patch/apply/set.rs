//! Sets of fields: what a manager owns, what a write changed. On the wire they are `fieldsV1`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::{Element, ElementError, Path};

/// A set of paths, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    nodes: BTreeMap<Element, Node>,
}

/// What a set has at and below a step. Never neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Whether the path that ends here is in the set.
    pub(super) member: bool,
    /// The longer ones.
    pub(super) below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    pub(super) const fn new() -> Self {
        Self { nodes: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else {
            // Nobody owns the object as such.
            return;
        };
        let node = self.nodes.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// Puts a node in place; an empty one takes no place.
    pub(super) fn put(&mut self, element: Element, node: Node) {
        if !node.is_empty() {
            self.nodes.insert(element, node);
        }
    }

    pub(super) fn get(&self, element: &Element) -> Option<&Node> {
        self.nodes.get(element)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Element, &Node)> {
        self.nodes.iter()
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut united = self.clone();
        united.absorb(other.clone());
        united
    }

    /// Adds the paths of `other`. What it costs is the size of `other`: entries are merged by the thousand where a client
    /// sends so many.
    pub(super) fn absorb(&mut self, other: Self) {
        for (element, theirs) in other.nodes {
            let node = self.nodes.entry(element).or_default();
            node.member |= theirs.member;
            node.below.absorb(theirs.below);
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(|element, node| {
            other.get(element).map_or_else(Node::default, |theirs| Node {
                member: node.member && theirs.member,
                below: node.below.intersection(&theirs.below),
            })
        })
    }

    /// The paths that are not in `other`. A field in `other` does not take the fields below it along.
    pub(super) fn difference(&self, other: &Self) -> Self {
        self.combine(|element, node| {
            other.get(element).map_or_else(
                || node.clone(),
                |theirs| Node {
                    member: node.member && !theirs.member,
                    below: node.below.difference(&theirs.below),
                },
            )
        })
    }

    /// The paths at or below the field of that name, or all others.
    pub(super) fn filter(&self, field: &str, keep: bool) -> Self {
        let named = |element: &Element| matches!(element, Element::Field(name) if name == field);
        self.combine(
            |element, node| {
                if named(element) == keep { node.clone() } else { Node::default() }
            },
        )
    }

    fn combine(&self, make: impl Fn(&Element, &Node) -> Node) -> Self {
        let mut made = Self::default();
        for (element, node) in &self.nodes {
            made.put(element.clone(), make(element, node));
        }
        made
    }

    /// Every path of the set, parents first.
    pub(super) fn paths(&self) -> Vec<Path> {
        let mut found = Vec::new();
        self.collect(&mut Vec::new(), &mut found);
        found
    }

    /// Kubernetes' order: at each level first all members, then what is below each.
    fn collect(&self, path: &mut Path, found: &mut Vec<Path>) {
        for (element, _) in self.nodes.iter().filter(|(_, node)| node.member) {
            path.push(element.clone());
            found.push(path.clone());
            path.pop();
        }
        for (element, node) in &self.nodes {
            path.push(element.clone());
            node.below.collect(path, found);
            path.pop();
        }
    }

    /// As `fieldsV1`.
    pub(super) fn encode(&self) -> Value {
        let mut fields = Map::new();
        for (element, node) in &self.nodes {
            let mut below = node.below.encode();
            if let Value::Object(inner) = &mut below
                && node.member
                && !inner.is_empty()
            {
                inner.insert(".".into(), Value::Object(Map::new()));
            }
            fields.insert(element.encode(), below);
        }
        Value::Object(fields)
    }

    /// Reads `fieldsV1`.
    pub(super) fn decode(value: &Value) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            return Err("a set of fields is an object".into());
        };
        let mut set = Self::default();
        for (key, value) in fields {
            if key == "." {
                continue;
            }
            let element = match Element::decode(key) {
                Ok(element) => element,
                Err(ElementError::Unknown) => continue,
                Err(ElementError::Malformed(why)) => return Err(why),
            };
            let below = Self::decode(value)?;
            let dotted = value.get(".").is_some();
            let member = dotted || below.is_empty();
            let node = set.nodes.entry(element).or_default();
            node.member |= member;
            node.below.absorb(below);
        }
        Ok(set)
    }
}
