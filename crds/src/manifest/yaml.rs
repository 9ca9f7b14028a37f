//! YAML text to documents, with bounds on what a document may grow to.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::node::{Content, Entry, Fault, Node, Position, Size};
use super::{MAX_DEPTH, MAX_DOCUMENT_CHARS, MAX_NODES, scalar};

/// A value whose text is bounded with the document it stands in.
const ONE: Size = Size { nodes: 1, bytes: 0 };

const STRING_KEY: &str = "the name of a field must be a string; quote it";

/// Reads every document and hands it on; documents before a mistake are handed on too.
pub(super) fn read(text: &str, take: &mut dyn FnMut(Node)) -> Result<(), Fault> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| Fault::new(position(*error.marker()), error.info()))?;
        if let Some(node) = builder.event(event, span)?
            && !matches!(node.content, Content::Null)
        {
            take(node);
        }
    }
    Ok(())
}

fn position(marker: Marker) -> Position {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Position { line: number(marker.line()).max(1), column: number(marker.col()).saturating_add(1) }
}

#[derive(Default)]
struct Builder {
    /// The lists and mappings around the next value.
    open: Vec<Open>,
    /// Values that aliases may repeat, by the number the parser gives them.
    anchors: HashMap<usize, Node>,
    /// Values of this document so far, and the bytes of those that are copies.
    size: Size,
    /// Where this document starts, in characters.
    start: usize,
}

struct Open {
    at: Position,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    keys: HashSet<String>,
    /// The name of the field whose value comes next; `None` before its `<<`.
    key: Option<(Option<String>, Position)>,
    merged: Vec<Node>,
}

impl Builder {
    /// Takes the next event; answers the document that it completes.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<Option<Node>, Fault> {
        let at = position(span.start);
        if span.end.index().saturating_sub(self.start) > MAX_DOCUMENT_CHARS {
            return Err(Fault::new(
                at,
                format!("a document may have {MAX_DOCUMENT_CHARS} characters"),
            ));
        }
        match event {
            Event::DocumentStart(_) => *self = Self { start: span.end.index(), ..Self::default() },
            Event::Alias(anchor) => {
                let repeated = self.anchors.get(&anchor);
                let node = repeated
                    .cloned()
                    .ok_or_else(|| Fault::new(at, "the alias refers to nothing before it"))?;
                self.count(node.size(), at)?;
                return self.value(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(ONE, at)?;
                let merge = style == ScalarStyle::Plain && text == "<<" && tag.is_none();
                if merge && self.take_merge_key(at)? {
                    return Ok(None);
                }
                let content =
                    content(&text, style, tag.as_deref()).map_err(|rule| Fault::new(at, rule))?;
                // A number may name a field: it is written the way it is meant.
                if let Content::Number(_) = content
                    && self.expects_key()
                {
                    return self
                        .anchored(Node { at, content: Content::Text(text.into_owned()) }, anchor);
                }
                return self.anchored(Node { at, content }, anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq").map_err(|rule| Fault::new(at, rule))?;
                self.push(Open { at, anchor, kind: OpenKind::List(Vec::new()) })?;
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map").map_err(|rule| Fault::new(at, rule))?;
                self.push(Open { at, anchor, kind: OpenKind::Map(OpenMap::default()) })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { at, anchor, kind }) = self.open.pop() else { return Ok(None) };
                let content = match kind {
                    OpenKind::List(items) => Content::List(items),
                    OpenKind::Map(map) => Content::Map(map.finish()),
                };
                return self.anchored(Node { at, content }, anchor);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(None)
    }

    fn push(&mut self, open: Open) -> Result<(), Fault> {
        self.count(ONE, open.at)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(Fault::new(open.at, format!("values may be nested {MAX_DEPTH} deep")));
        }
        self.open.push(open);
        Ok(())
    }

    fn count(&mut self, size: Size, at: Position) -> Result<(), Fault> {
        self.size = self.size.and(size);
        let too_much = |most: usize, what: &str| {
            Err(Fault::new(
                at,
                format!("a document may have {most} {what}, aliases counted in full"),
            ))
        };
        if self.size.nodes > MAX_NODES {
            return too_much(MAX_NODES, "values");
        }
        if self.size.bytes > MAX_DOCUMENT_CHARS {
            return too_much(MAX_DOCUMENT_CHARS, "characters");
        }
        Ok(())
    }

    /// Takes a complete value that aliases may repeat. What is remembered counts too: anchors within anchors are copies.
    fn anchored(&mut self, node: Node, anchor: usize) -> Result<Option<Node>, Fault> {
        if anchor != 0 {
            self.count(node.size(), node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.value(node)
    }

    fn expects_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open { kind: OpenKind::Map(OpenMap { key: None, .. }), .. })
        )
    }

    fn take_merge_key(&mut self, at: Position) -> Result<bool, Fault> {
        if !self.expects_key() {
            return Ok(false);
        }
        let Some(Open { kind: OpenKind::Map(map), .. }) = self.open.last_mut() else {
            return Ok(false);
        };
        if !map.keys.insert("<<".to_owned()) {
            return Err(Fault::new(at, "the field << is there twice"));
        }
        map.key = Some((None, at));
        Ok(true)
    }

    /// Puts a complete value where it belongs; answers it if it is the document.
    fn value(&mut self, node: Node) -> Result<Option<Node>, Fault> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => return Ok(Some(node)),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map(map)) => map.value(node)?,
        }
        Ok(None)
    }
}

impl OpenMap {
    fn value(&mut self, node: Node) -> Result<(), Fault> {
        match self.key.take() {
            None => {
                let Content::Text(key) = node.content else {
                    return Err(Fault::new(node.at, STRING_KEY));
                };
                if !self.keys.insert(key.clone()) {
                    return Err(Fault::new(node.at, format!("the field {key} is there twice")));
                }
                self.key = Some((Some(key), node.at));
            }
            Some((Some(key), at)) => self.entries.push(Entry { key, at, value: node }),
            Some((None, at)) => {
                let sources = match node.content {
                    Content::List(items) => items,
                    content => vec![Node { at: node.at, content }],
                };
                if sources.iter().any(|source| !matches!(source.content, Content::Map(_))) {
                    return Err(Fault::new(at, "<< takes a mapping or a list of mappings"));
                }
                self.merged = sources;
            }
        }
        Ok(())
    }

    /// The fields: the mapping's own, then those that are merged in and not overridden.
    fn finish(mut self) -> Vec<Entry> {
        for source in self.merged {
            if let Content::Map(entries) = source.content {
                self.entries.extend(
                    entries.into_iter().filter(|entry| self.keys.insert(entry.key.clone())),
                );
            }
        }
        self.entries
    }
}

/// What a scalar is.
fn content(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Content, String> {
    let resolved = || scalar::resolve(text).map_err(str::to_owned);
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain {
            resolved()
        } else {
            Ok(Content::Text(text.to_owned()))
        };
    };
    let name = if tag.is_yaml_core_schema() { tag.suffix.as_str() } else { "" };
    let fits = match (name, resolved()?) {
        ("str", _) => return Ok(Content::Text(text.to_owned())),
        ("null", content @ Content::Null)
        | ("bool", content @ Content::Bool(_))
        | ("int" | "float", content @ Content::Number(_)) => Some(content),
        _ => None,
    };
    fits.ok_or_else(|| format!("the tag {tag} cannot be used here"))
}

fn check_tag(tag: Option<&Tag>, expected: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() || tag.suffix != expected => {
            Err(format!("the tag {tag} cannot be used here"))
        }
        _ => Ok(()),
    }
}
