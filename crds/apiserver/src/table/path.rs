//! The `JSONPath` of printer columns: `.a.b`, `['a']`, `[0]`, `[*]`, `[?(@.type=="Ready")]`.

use serde_json::Value;

/// A path that was read.
#[derive(Debug, PartialEq)]
pub(super) struct Path {
    steps: Vec<Step>,
}

#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    /// From the end when negative.
    Item(i64),
    All,
    /// The items of which a field compares so; without a comparison, those that have it.
    Where {
        field: Vec<Step>,
        comparison: Option<(bool, Value)>,
    },
}

impl Path {
    /// Reads a path; nothing when it is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (steps, rest) = steps(text)?;
        rest.is_empty().then_some(Self { steps })
    }

    /// The first value at the path.
    pub(super) fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        find(&self.steps, object)
    }
}

fn find<'a>(steps: &[Step], value: &'a Value) -> Option<&'a Value> {
    let Some((step, rest)) = steps.split_first() else { return Some(value) };
    match step {
        Step::Field(name) => find(rest, value.get(name)?),
        Step::Item(index) => {
            let items = value.as_array()?;
            let from_end = usize::try_from(index.unsigned_abs()).ok()?;
            let position = if *index < 0 { items.len().checked_sub(from_end)? } else { from_end };
            find(rest, items.get(position)?)
        }
        Step::All => match value {
            Value::Array(items) => items.iter().find_map(|item| find(rest, item)),
            Value::Object(fields) => fields.values().find_map(|field| find(rest, field)),
            _ => None,
        },
        Step::Where { field, comparison } => value
            .as_array()?
            .iter()
            .filter(|item| holds(field, comparison.as_ref(), item))
            .find_map(|item| find(rest, item)),
    }
}

fn holds(field: &[Step], comparison: Option<&(bool, Value)>, item: &Value) -> bool {
    match (find(field, item), comparison) {
        (Some(found), Some((equal, value))) => (found == value) == *equal,
        (found, None) => found.is_some(),
        (None, Some(_)) => false,
    }
}

/// Reads steps as far as there are any.
fn steps(text: &str) -> Option<(Vec<Step>, &str)> {
    let mut steps = Vec::new();
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix('.') {
            let (name, after) = field(after)?;
            steps.push(Step::Field(name));
            rest = after;
        } else if let Some(after) = rest.strip_prefix("[?(") {
            let (step, after) = condition(after)?;
            steps.push(step);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (inner, after) = after.split_once(']')?;
            steps.push(bracket(inner)?);
            rest = after;
        } else {
            return Some((steps, rest));
        }
    }
}

/// A name after a dot; a backslash keeps what follows in it.
fn field(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.chars();
    let mut rest = text;
    while let Some(c) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?),
            '.' | '[' | ']' | ')' | '=' | '!' | '<' | '>' | ' ' => break,
            c => name.push(c),
        }
        rest = chars.as_str();
    }
    (!name.is_empty()).then_some((name, rest))
}

fn bracket(inner: &str) -> Option<Step> {
    if inner == "*" {
        return Some(Step::All);
    }
    if let Ok(index) = inner.parse() {
        return Some(Step::Item(index));
    }
    Some(Step::Field(quoted(inner)?.to_owned()))
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

/// What is between `[?(` and `)]`: a path from `@`, and what it compares with.
fn condition(text: &str) -> Option<(Step, &str)> {
    let (field, rest) = steps(text.trim_start().strip_prefix('@')?)?;
    let rest = rest.trim_start();
    if let Some(after) = rest.strip_prefix(")]") {
        return Some((Step::Where { field, comparison: None }, after));
    }
    let (equal, rest) = match (rest.strip_prefix("=="), rest.strip_prefix("!=")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return None,
    };
    let (literal, after) = rest.split_once(")]")?;
    let literal = literal.trim();
    let value = match quoted(literal) {
        Some(text) => Value::String(text.to_owned()),
        None => serde_json::from_str(literal).ok()?,
    };
    Some((Step::Where { field, comparison: Some((equal, value)) }, after))
}
