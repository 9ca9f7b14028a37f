//! One step of a path to a field, as `fieldsV1` names it.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

/// A path from an object to one of its fields or items.
pub(super) type Path = Vec<Element>;

/// One step. The order of the variants is the order in which sets list them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    /// A field of an object: `f:name`.
    Field(String),
    /// An item of a list whose items have keys, names sorted: `k:{"name":"x"}`.
    Key(Vec<(String, Scalar)>),
    /// An item of a list that is a set: `v:"x"`.
    Value(Scalar),
    /// An item by its position: `i:0`. Nothing here makes one; old entries may have them.
    Index(i64),
}

/// A value that is neither a list nor an object, with an order.
#[derive(Clone, Debug)]
pub(super) struct Scalar(Value);

/// Why a text is no step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ElementError {
    /// It starts with a letter that a later version may know; such entries are dropped.
    Unknown,
    /// It is malformed.
    Malformed(String),
}

impl Element {
    pub(super) fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    /// The key of a set, as in `f:spec`.
    pub(super) fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(parts) => {
                let fields: Map<String, Value> =
                    parts.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
                format!("k:{}", Value::Object(fields))
            }
            Self::Value(value) => format!("v:{}", value.0),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// Reads the key of a set.
    pub(super) fn decode(text: &str) -> Result<Self, ElementError> {
        let malformed = |why: &str| ElementError::Malformed(format!("{why}: {text}"));
        let (kind, rest) = text.split_once(':').ok_or_else(|| malformed("missing colon"))?;
        match kind {
            "f" => Ok(Self::field(rest)),
            "v" => {
                let value = serde_json::from_str(rest).map_err(|_| malformed("no JSON value"))?;
                Ok(Self::Value(Scalar::new(value).ok_or_else(|| malformed("no scalar"))?))
            }
            "k" => {
                let fields: Map<String, Value> =
                    serde_json::from_str(rest).map_err(|_| malformed("no JSON object"))?;
                let parts = fields
                    .into_iter()
                    .map(|(name, value)| Some((name, Scalar::new(value)?)))
                    .collect::<Option<Vec<_>>>();
                Ok(Self::Key(parts.ok_or_else(|| malformed("a key that is no scalar"))?))
            }
            "i" => Ok(Self::Index(rest.parse().map_err(|_| malformed("no number"))?)),
            _ if kind.len() == 1 => Err(ElementError::Unknown),
            _ => Err(malformed("missing colon")),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(parts) => {
                f.write_str("[")?;
                for (index, (name, value)) in parts.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", value.0)?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={}]", value.0),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A path as messages show it: `.spec.filter[name="x"]`.
pub(super) fn display(path: &[Element]) -> String {
    path.iter().map(Element::to_string).collect()
}

impl Scalar {
    /// Nothing for lists and objects.
    pub(super) fn new(value: Value) -> Option<Self> {
        (!value.is_array() && !value.is_object()).then_some(Self(value))
    }

    fn rank(&self) -> u8 {
        match self.0 {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            // No scalar is a list or an object.
            Value::Null | Value::Array(_) | Value::Object(_) => 3,
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Number(a), Value::Number(b)) => {
                let approximate = |number: &serde_json::Number| number.as_f64().unwrap_or(0.0);
                // Whole numbers beyond 2^53 differ though their approximations do not; the text tells them apart.
                approximate(a).total_cmp(&approximate(b)).then_with(|| {
                    if a == b { Ordering::Equal } else { a.to_string().cmp(&b.to_string()) }
                })
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}
