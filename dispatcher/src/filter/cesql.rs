//! `CloudEvents` SQL 1.0: expressions over the attributes of an event.
//!
//! Every expression has a value for every event; an error comes beside it (§3.3 of the specification). Evaluation ends
//! at the first error with the zero value of what was being computed.

use std::fmt;
use std::sync::Arc;

use broker_event::{Event, ValueRef};

mod eval;
mod functions;
mod lexer;
mod like;
mod parser;
#[cfg(test)]
mod tests;

pub use parser::ParseError;

/// Characters of a text that an error shows.
const MAX_SHOWN: usize = 64;

/// A value of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A sequence of Unicode characters.
    String(Arc<str>),
    /// A 32-bit signed integer.
    Integer(i32),
    /// True or false.
    Boolean(bool),
}

/// The types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    Integer,
    Boolean,
}

/// What went wrong, by the kinds of the specification (§3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is no expression.
    Parse,
    /// Division by zero, or a result outside 32 bits.
    Math,
    /// A value cannot become one of another type.
    Cast,
    /// The event has no such attribute.
    MissingAttribute,
    /// There is no such function, or not with so many arguments.
    MissingFunction,
    /// A function does not take such an argument.
    FunctionEvaluation,
}

/// An error of an evaluation. The expression has a value all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// Its kind.
    pub kind: ErrorKind,
    /// A sentence.
    pub message: String,
}

/// What an expression is for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The value the specification gives it, also when there is an error.
    pub value: Value,
    /// The first error.
    pub error: Option<EvalError>,
}

/// A parsed expression. Cheap to clone; equal when its text is.
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    root: Arc<parser::Expr>,
}

/// Why an expression that parses can still never decide about an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// There is no such function, or not with so many arguments.
    #[error("there is no function {name} with {arguments} arguments")]
    Function {
        /// Its name.
        name: String,
        /// How many arguments it was given.
        arguments: usize,
    },
    /// Its value is text or a number, whatever the event.
    #[error(
        "the expression is {found}, which is neither true nor false: compare it with something"
    )]
    NotBoolean {
        /// What it is.
        found: &'static str,
    },
}

impl ErrorKind {
    /// The name the specification's test suite uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Math => "math",
            Self::Cast => "cast",
            Self::MissingAttribute => "missingAttribute",
            Self::MissingFunction => "missingFunction",
            Self::FunctionEvaluation => "functionEvaluation",
        }
    }
}

impl EvalError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Never: the same event gives the same error.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl CheckError {
    /// Never: the expression must change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl Expression {
    /// Parses an expression.
    ///
    /// # Errors
    /// Where the text stops being an expression, and what could have stood there.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { text: text.into(), root: Arc::new(parser::parse(text)?) })
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its value for `event`, and the first error on the way.
    #[must_use]
    pub fn evaluate(&self, event: &Event) -> Evaluation {
        match eval::evaluate(&self.root, event) {
            Ok(value) => Evaluation { value, error: None },
            Err(failed) => Evaluation { value: failed.value, error: Some(failed.error) },
        }
    }

    /// Whether it is true for `event`. An error is not true.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        matches!(eval::evaluate(&self.root, event), Ok(Value::Boolean(true)))
    }

    /// Looks for what can be known without an event: functions that do not exist, and values that decide nothing.
    ///
    /// # Errors
    /// What makes it useless as a filter.
    pub fn check(&self) -> Result<(), CheckError> {
        self.root.check_functions()?;
        match self.root.returns() {
            Some(Type::String) => Err(CheckError::NotBoolean { found: "a text" }),
            Some(Type::Integer) => Err(CheckError::NotBoolean { found: "a number" }),
            Some(Type::Boolean) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({})", self.text)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl Value {
    pub(crate) fn type_of(&self) -> Type {
        match self {
            Self::String(_) => Type::String,
            Self::Integer(_) => Type::Integer,
            Self::Boolean(_) => Type::Boolean,
        }
    }

    /// As text: numbers in digits, truth as `true` or `false` (§3.7).
    pub(crate) fn to_text(&self) -> Arc<str> {
        match self {
            Self::String(text) => text.clone(),
            Self::Integer(number) => number.to_string().into(),
            Self::Boolean(true) => "true".into(),
            Self::Boolean(false) => "false".into(),
        }
    }

    pub(crate) fn to_integer(&self) -> Result<i32, EvalError> {
        match self {
            Self::Integer(number) => Ok(*number),
            Self::Boolean(truth) => Ok(i32::from(*truth)),
            Self::String(text) => text.parse().map_err(|_| self.cast("a 32-bit integer")),
        }
    }

    pub(crate) fn to_boolean(&self) -> Result<bool, EvalError> {
        match self {
            Self::Boolean(truth) => Ok(*truth),
            Self::Integer(number) => Ok(*number != 0),
            Self::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Self::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Self::String(_) => Err(self.cast("true or false")),
        }
    }

    pub(crate) fn to_type(&self, ty: Type) -> Result<Self, EvalError> {
        match ty {
            Type::String => Ok(Self::String(self.to_text())),
            Type::Integer => self.to_integer().map(Self::Integer),
            Type::Boolean => self.to_boolean().map(Self::Boolean),
        }
    }

    fn cast(&self, wanted: &str) -> EvalError {
        let shown = match self {
            // An attribute may be as long as an event.
            Self::String(text) if text.chars().nth(MAX_SHOWN).is_some() => {
                format!("'{}…'", text.chars().take(MAX_SHOWN).collect::<String>())
            }
            value => value.to_string(),
        };
        EvalError::new(ErrorKind::Cast, format!("{shown} is not {wanted}"))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => write!(f, "'{text}'"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(truth) => write!(f, "{truth}"),
        }
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::String(text) => Self::String(text.into()),
            ValueRef::Boolean(truth) => Self::Boolean(truth),
            ValueRef::Integer(number) => Self::Integer(number),
        }
    }
}

impl Type {
    /// The value an error of this type comes with (§3.1).
    pub(crate) fn zero(self) -> Value {
        match self {
            Self::String => Value::String("".into()),
            Self::Integer => Value::Integer(0),
            Self::Boolean => Value::Boolean(false),
        }
    }
}
