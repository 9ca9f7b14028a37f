//! The built-in functions (§3.5 of the specification).

use super::eval::Failed;
use super::{ErrorKind, EvalError, Type, Value};

/// A built-in function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Abs,
    Bool,
    Concat,
    ConcatWs,
    Int,
    IsBool,
    IsInt,
    Left,
    Length,
    Lower,
    Right,
    Str,
    Substring,
    Trim,
    Upper,
}

/// Name, fewest and most arguments, function.
const ALL: [(&str, usize, usize, Function); 15] = [
    ("ABS", 1, 1, Function::Abs),
    ("BOOL", 1, 1, Function::Bool),
    ("CONCAT", 0, usize::MAX, Function::Concat),
    ("CONCAT_WS", 1, usize::MAX, Function::ConcatWs),
    ("INT", 1, 1, Function::Int),
    ("IS_BOOL", 1, 1, Function::IsBool),
    ("IS_INT", 1, 1, Function::IsInt),
    ("LEFT", 2, 2, Function::Left),
    ("LENGTH", 1, 1, Function::Length),
    ("LOWER", 1, 1, Function::Lower),
    ("RIGHT", 2, 2, Function::Right),
    ("STRING", 1, 1, Function::Str),
    ("SUBSTRING", 2, 3, Function::Substring),
    ("TRIM", 1, 1, Function::Trim),
    ("UPPER", 1, 1, Function::Upper),
];

impl Function {
    /// The function of that name (in any case) that takes so many arguments.
    pub(super) fn find(name: &str, arguments: usize) -> Option<Self> {
        let named = ALL.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
        let (_, fewest, most, function) = *named;
        (fewest..=most).contains(&arguments).then_some(function)
    }

    pub(super) fn returns(self) -> Type {
        match self {
            Self::Abs | Self::Int | Self::Length => Type::Integer,
            Self::Bool | Self::IsBool | Self::IsInt => Type::Boolean,
            Self::Concat
            | Self::ConcatWs
            | Self::Left
            | Self::Lower
            | Self::Right
            | Self::Str
            | Self::Substring
            | Self::Trim
            | Self::Upper => Type::String,
        }
    }

    /// Calls it with as many arguments as [`Function::find`] was asked about.
    pub(super) fn call(self, arguments: &[Value]) -> Result<Value, Failed> {
        let zero = self.returns().zero();
        let failed = |error| Failed { value: zero.clone(), error };
        let any = |index: usize| arguments.get(index).unwrap_or(&Value::Boolean(false));
        let text = |index: usize| any(index).to_text();
        let number = |index: usize| any(index).to_integer().map_err(failed);
        Ok(match self {
            Self::Abs => Value::Integer(abs(number(0)?)?),
            Self::Bool => Value::Boolean(any(0).to_boolean().map_err(failed)?),
            Self::Int => Value::Integer(number(0)?),
            Self::Str => Value::String(text(0)),
            Self::IsBool => {
                Value::Boolean(any(0).to_boolean().is_ok() && !matches!(any(0), Value::Integer(_)))
            }
            Self::IsInt => {
                Value::Boolean(any(0).to_integer().is_ok() && !matches!(any(0), Value::Boolean(_)))
            }
            Self::Length => {
                Value::Integer(i32::try_from(text(0).chars().count()).unwrap_or(i32::MAX))
            }
            Self::Concat => {
                string(arguments.iter().map(|value| value.to_text().to_string()).collect())
            }
            Self::ConcatWs => {
                let texts: Vec<_> = arguments.iter().skip(1).map(Value::to_text).collect();
                string(texts.join(&*text(0)))
            }
            Self::Lower => string(text(0).to_lowercase()),
            Self::Upper => string(text(0).to_uppercase()),
            Self::Trim => string(text(0).trim().to_owned()),
            Self::Left => {
                end(&text(0), number(1)?, "LEFT", |text, most| text.chars().take(most).collect())?
            }
            Self::Right => end(&text(0), number(1)?, "RIGHT", |text, most| {
                let skip = text.chars().count().saturating_sub(most);
                text.chars().skip(skip).collect()
            })?,
            Self::Substring => {
                let length = if arguments.len() > 2 { Some(number(2)?) } else { None };
                substring(&text(0), number(1)?, length)?
            }
        })
    }
}

fn string(text: String) -> Value {
    Value::String(text.into())
}

fn evaluation(value: Value, message: &str) -> Failed {
    Failed { value, error: EvalError::new(ErrorKind::FunctionEvaluation, message) }
}

fn abs(number: i32) -> Result<i32, Failed> {
    number.checked_abs().ok_or_else(|| Failed {
        value: Value::Integer(i32::MAX),
        error: EvalError::new(ErrorKind::Math, format!("ABS({number}) does not fit 32 bits")),
    })
}

/// LEFT and RIGHT: a negative count is an error and gives the whole text.
fn end(
    text: &str,
    count: i32,
    name: &str,
    cut: impl Fn(&str, usize) -> String,
) -> Result<Value, Failed> {
    match usize::try_from(count) {
        Ok(count) => Ok(string(cut(text, count))),
        Err(_) => Err(evaluation(
            string(text.to_owned()),
            &format!("{name}: the count must not be negative"),
        )),
    }
}

fn substring(text: &str, position: i32, length: Option<i32>) -> Result<Value, Failed> {
    let whole = text.chars().count();
    let refused = |message| Err(evaluation(string(String::new()), message));
    let take = match length.map(usize::try_from) {
        None => usize::MAX,
        Some(Ok(length)) => length,
        Some(Err(_)) => return refused("SUBSTRING: the length must not be negative"),
    };
    let distance = usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX);
    if distance > whole {
        return refused("SUBSTRING: the position is outside the text");
    }
    let skip = match position {
        0 => return Ok(string(String::new())),
        1.. => distance.saturating_sub(1),
        _ => whole.saturating_sub(distance),
    };
    Ok(string(text.chars().skip(skip).take(take).collect()))
}
