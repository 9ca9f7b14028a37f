//! Expressions to values.

use std::cell::Cell;
use std::cmp::Ordering;

use broker_event::{Event, ValueRef};

use super::functions::Function;
use super::like::Pattern;
use super::parser::{Arithmetic, Compare, Expr, Logic, Step};
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

/// What an evaluation may cost, in bytes read or copied and steps of LIKE: the largest event by default sixteen times
/// over, which takes milliseconds. Only an expression made to be slow, over an event made for it, comes there, and it must
/// not hold up every other trigger.
const MAX_COST: usize = 16 << 20;

pub(super) fn evaluate(expr: &Expr, event: &Event) -> Result<Value, Failed> {
    Evaluator { event, left: Cell::new(MAX_COST) }.value(expr)
}

struct Evaluator<'a> {
    event: &'a Event,
    /// What is left of [`MAX_COST`].
    left: Cell<usize>,
}

/// One small function a kind of expression: what nests on the stack is only what the expression uses.
impl Evaluator<'_> {
    fn value(&self, expr: &Expr) -> Result<Value, Failed> {
        match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Attribute(name) => self.attribute(name),
            Expr::Exists(name) => Ok(Value::Boolean(self.event.attribute(name).is_some())),
            Expr::Not(operand) => self.not(operand),
            Expr::Minus(operand) => self.minus(operand),
            Expr::Chain(first, steps) => self.chain(first, steps),
            Expr::Logic(chain, last) => self.logic(chain, last),
            Expr::Call(function, arguments) => self.call(*function, arguments),
            Expr::Unknown { name, arguments } => Err(unknown(name, *arguments)),
        }
    }

    fn attribute(&self, name: &str) -> Result<Value, Failed> {
        let value = self.event.attribute(name).ok_or_else(|| missing(name))?;
        if let ValueRef::String(text) = value {
            self.spend(text.len(), Type::Boolean)?;
        }
        Ok(value.into())
    }

    fn not(&self, operand: &Expr) -> Result<Value, Failed> {
        self.truth(operand).map(|truth| Value::Boolean(!truth))
    }

    fn minus(&self, operand: &Expr) -> Result<Value, Failed> {
        let operand = self.value(operand).map_err(|failed| failed.within(Type::Integer))?;
        let operand = integer(&operand)?;
        operand.checked_neg().map(Value::Integer).ok_or_else(|| overflow(&format!("-({operand})")))
    }

    fn chain(&self, first: &Expr, steps: &[Step]) -> Result<Value, Failed> {
        let ty = steps.last().map_or(Type::Boolean, Step::returns);
        let mut value = self.value(first);
        for step in steps {
            value = match value {
                Ok(left) => self.step(&left, step),
                Err(failed) => return Err(failed.within(ty)),
            };
        }
        value.map_err(|failed| failed.within(ty))
    }

    fn step(&self, left: &Value, step: &Step) -> Result<Value, Failed> {
        match step {
            Step::Arithmetic(operator, right) => {
                let left = integer(left)?;
                calculate(*operator, left, &self.value(right)?)
            }
            Step::Compare(operator, right) => compare(*operator, left, &self.value(right)?),
            Step::Like { pattern, negated } => {
                self.like(left, pattern).map(|matched| Value::Boolean(matched != *negated))
            }
            Step::In { set, negated } => {
                self.is_in(left, set).map(|found| Value::Boolean(found != *negated))
            }
        }
    }

    fn like(&self, left: &Value, pattern: &Pattern) -> Result<bool, Failed> {
        let mut steps = self.left.get();
        let matched = pattern.matches(&left.to_text(), &mut steps);
        self.left.set(steps);
        matched.ok_or_else(|| too_costly(Type::Boolean))
    }

    fn is_in(&self, left: &Value, set: &[Expr]) -> Result<bool, Failed> {
        let mut found = false;
        for element in set {
            // A set is no place for short cuts: an element that fails, fails the whole, wherever it stands.
            found |= equal(&self.value(element)?, left)?;
        }
        Ok(found)
    }

    /// A chain groups to the right, so each operand decides or leaves the decision to all that follow.
    fn logic(&self, chain: &[(Expr, Logic)], last: &Expr) -> Result<Value, Failed> {
        // What an XOR on the way has turned round.
        let mut flipped = false;
        for (operand, operator) in chain {
            match (operator, self.truth(operand)?) {
                (Logic::And, false) => return Ok(Value::Boolean(flipped)),
                (Logic::Or, true) => return Ok(Value::Boolean(!flipped)),
                (Logic::Xor, true) => flipped = !flipped,
                (Logic::And, true) | (Logic::Or | Logic::Xor, false) => {}
            }
        }
        self.truth(last).map(|truth| Value::Boolean(truth != flipped))
    }

    fn truth(&self, operand: &Expr) -> Result<bool, Failed> {
        boolean(&self.value(operand).map_err(|failed| failed.within(Type::Boolean))?)
    }

    fn call(&self, function: Function, arguments: &[Expr]) -> Result<Value, Failed> {
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let value = self.value(argument);
            values.push(value.map_err(|failed| failed.within(function.returns()))?);
        }
        self.spend(cost(&values), function.returns())?;
        function.call(&values)
    }

    fn spend(&self, cost: usize, ty: Type) -> Result<(), Failed> {
        let left = self.left.get().checked_sub(cost).ok_or_else(|| too_costly(ty))?;
        self.left.set(left);
        Ok(())
    }
}

/// No function makes more of its arguments than this: the first may come between all others.
fn cost(arguments: &[Value]) -> usize {
    let length = |value: &Value| match value {
        Value::String(text) => text.len(),
        Value::Integer(_) | Value::Boolean(_) => 0,
    };
    let first = arguments.first().map_or(0, length).saturating_mul(arguments.len());
    arguments.iter().map(length).fold(first, usize::saturating_add)
}

fn too_costly(ty: Type) -> Failed {
    let message = "the expression takes too long for an event with so much text";
    Failed::new(ty, EvalError::new(ErrorKind::FunctionEvaluation, message))
}

fn missing(name: &str) -> Failed {
    let message = format!("the event has no attribute {name:?}");
    Failed::new(Type::Boolean, EvalError::new(ErrorKind::MissingAttribute, message))
}

fn unknown(name: &str, arguments: usize) -> Failed {
    let message = format!("there is no function {name} with {arguments} arguments");
    Failed::new(Type::Boolean, EvalError::new(ErrorKind::MissingFunction, message))
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

fn calculate(operator: Arithmetic, left: i32, right: &Value) -> Result<Value, Failed> {
    let right = integer(right)?;
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
    result.map(Value::Integer).ok_or_else(|| overflow(&format!("{left} {sign} {right}")))
}

/// Equality casts the left side to the type of the right; order compares numbers.
fn compare(operator: Compare, left: &Value, right: &Value) -> Result<Value, Failed> {
    let order = || Ok(integer(left)?.cmp(&integer(right)?));
    let holds = match operator {
        Compare::Equal => equal(left, right),
        Compare::Unequal => equal(left, right).map(|equal| !equal),
        Compare::Less => order().map(Ordering::is_lt),
        Compare::LessOrEqual => order().map(Ordering::is_le),
        Compare::Greater => order().map(Ordering::is_gt),
        Compare::GreaterOrEqual => order().map(Ordering::is_ge),
    };
    holds.map(Value::Boolean)
}

/// Whether `value`, cast to the type of `target`, is `target`.
fn equal(value: &Value, target: &Value) -> Result<bool, Failed> {
    let cast = value.to_type(target.type_of());
    Ok(cast.map_err(|error| Failed::new(Type::Boolean, error))? == *target)
}
