//! Expressions to values.

use broker_event::Event;

use super::parser::{Arithmetic, Compare, Expr, Logic};
use super::{ErrorKind, EvalError, Type, Value};

/// An evaluation that ended early: the value it has all the same, and why.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) value: Value,
    pub(super) error: EvalError,
}

impl Failed {
    fn new(ty: Type, error: EvalError) -> Self {
        Self { value: ty.zero(), error }
    }

    /// What surrounds it has no value either, but the zero of its own type.
    fn within(self, ty: Type) -> Self {
        Self { value: ty.zero(), ..self }
    }
}

pub(super) fn evaluate(expr: &Expr, event: &Event) -> Result<Value, Failed> {
    let of =
        |operand: &Expr, ty: Type| evaluate(operand, event).map_err(|failed| failed.within(ty));
    Ok(match expr {
        Expr::Literal(value) => value.clone(),
        Expr::Attribute(name) => match event.attribute(name) {
            Some(value) => value.into(),
            None => return Err(missing(name)),
        },
        Expr::Exists(name) => Value::Boolean(event.attribute(name).is_some()),
        Expr::Not(operand) => Value::Boolean(!boolean(&of(operand, Type::Boolean)?)?),
        Expr::Minus(operand) => {
            let operand = integer(&of(operand, Type::Integer)?)?;
            Value::Integer(operand.checked_neg().ok_or_else(|| overflow(&format!("-({operand})")))?)
        }
        Expr::Like { operand, pattern, negated } => {
            let text = of(operand, Type::Boolean)?.to_text();
            Value::Boolean(pattern.matches(&text) != *negated)
        }
        Expr::In { operand, set, negated } => {
            let wanted = of(operand, Type::Boolean)?;
            let mut found = false;
            for element in set {
                // A set is no place for short cuts: an element that fails, fails the whole, wherever it stands.
                let element = of(element, Type::Boolean)?;
                let element =
                    element.to_type(wanted.type_of()).map_err(|e| Failed::new(Type::Boolean, e))?;
                found |= element == wanted;
            }
            Value::Boolean(found != *negated)
        }
        Expr::Arithmetic(operator, left, right) => {
            let left = integer(&of(left, Type::Integer)?)?;
            let right = integer(&of(right, Type::Integer)?)?;
            Value::Integer(calculate(*operator, left, right)?)
        }
        Expr::Compare(operator, left, right) => {
            let (left, right) = (of(left, Type::Boolean)?, of(right, Type::Boolean)?);
            Value::Boolean(
                compare(*operator, &left, &right).map_err(|e| Failed::new(Type::Boolean, e))?,
            )
        }
        Expr::Logic(chain, last) => Value::Boolean(logic(chain, last, event)?),
        Expr::Call(function, arguments) => {
            let values = arguments.iter().map(|argument| of(argument, function.returns()));
            function.call(&values.collect::<Result<Vec<_>, _>>()?)?
        }
        Expr::Unknown { name, arguments } => {
            let message = format!("there is no function {name} with {arguments} arguments");
            return Err(Failed::new(
                Type::Boolean,
                EvalError::new(ErrorKind::MissingFunction, message),
            ));
        }
    })
}

fn missing(name: &str) -> Failed {
    let message = format!("the event has no attribute {name:?}");
    Failed::new(Type::Boolean, EvalError::new(ErrorKind::MissingAttribute, message))
}

fn overflow(what: &str) -> Failed {
    Failed::new(
        Type::Integer,
        EvalError::new(ErrorKind::Math, format!("{what} does not fit 32 bits")),
    )
}

fn boolean(value: &Value) -> Result<bool, Failed> {
    value.to_boolean().map_err(|error| Failed::new(Type::Boolean, error))
}

fn integer(value: &Value) -> Result<i32, Failed> {
    value.to_integer().map_err(|error| Failed::new(Type::Integer, error))
}

fn calculate(operator: Arithmetic, left: i32, right: i32) -> Result<i32, Failed> {
    if right == 0 && matches!(operator, Arithmetic::Divide | Arithmetic::Remainder) {
        let error = EvalError::new(ErrorKind::Math, format!("{left} cannot be divided by zero"));
        return Err(Failed::new(Type::Integer, error));
    }
    let (sign, result) = match operator {
        Arithmetic::Add => ('+', left.checked_add(right)),
        Arithmetic::Subtract => ('-', left.checked_sub(right)),
        Arithmetic::Multiply => ('*', left.checked_mul(right)),
        Arithmetic::Divide => ('/', left.checked_div(right)),
        // The one remainder that overflows on the way has a value: the most negative number is a multiple of -1.
        Arithmetic::Remainder => ('%', Some(left.wrapping_rem(right))),
    };
    result.ok_or_else(|| overflow(&format!("{left} {sign} {right}")))
}

/// Equality casts the left side to the type of the right; order compares numbers.
fn compare(operator: Compare, left: &Value, right: &Value) -> Result<bool, EvalError> {
    let equal = || Ok(left.to_type(right.type_of())? == *right);
    let numbers = || Ok::<_, EvalError>((left.to_integer()?, right.to_integer()?));
    match operator {
        Compare::Equal => equal(),
        Compare::Unequal => equal().map(|equal| !equal),
        Compare::Less => numbers().map(|(left, right)| left < right),
        Compare::LessOrEqual => numbers().map(|(left, right)| left <= right),
        Compare::Greater => numbers().map(|(left, right)| left > right),
        Compare::GreaterOrEqual => numbers().map(|(left, right)| left >= right),
    }
}

/// A chain groups to the right, so each operand decides or leaves the decision to all that follow.
fn logic(chain: &[(Expr, Logic)], last: &Expr, event: &Event) -> Result<bool, Failed> {
    let truth = |operand: &Expr| {
        let value = evaluate(operand, event).map_err(|failed| failed.within(Type::Boolean))?;
        boolean(&value)
    };
    // What an XOR on the way has turned round.
    let mut flipped = false;
    for (operand, operator) in chain {
        match (operator, truth(operand)?) {
            (Logic::And, false) => return Ok(flipped),
            (Logic::Or, true) => return Ok(!flipped),
            (Logic::Xor, true) => flipped = !flipped,
            (Logic::And, true) | (Logic::Or | Logic::Xor, false) => {}
        }
    }
    Ok(truth(last)? != flipped)
}
