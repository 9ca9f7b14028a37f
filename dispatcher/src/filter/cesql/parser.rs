//! Tokens to expressions, by the grammar of the specification: unary operators bind tightest, then LIKE, EXISTS and IN, then
//! arithmetic, comparison, and last AND, OR and XOR, which are of one rank and group to the right.

use std::sync::Arc;

use super::functions::Function;
use super::lexer::{Token, tokens};
use super::like::Pattern;
use super::{CheckError, Type, Value};

/// Longest expression, in bytes: what people write fits a hundred times over.
const MAX_LENGTH: usize = 16 << 10;

/// Deepest nesting of brackets and signs: bounds the stack of parsing and evaluation, since nothing else nests. A level
/// that has every rank of operators takes about 12 KiB of it in a build without optimisation, and threads have 2 MiB.
const MAX_DEPTH: usize = 64;

/// Words that name no attribute.
const KEYWORDS: [&str; 9] = ["AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE"];

/// Where a text stops being an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}{near}: expected {expected}")]
pub struct ParseError {
    /// The character, from 1.
    pub position: usize,
    /// What could have stood there.
    pub expected: String,
    near: String,
}

impl ParseError {
    pub(super) fn at(text: &str, byte: usize, expected: impl Into<String>) -> Self {
        let (before, after) = text.split_at_checked(byte).unwrap_or((text, ""));
        let near: String = after.chars().take(16).collect();
        let near = if near.is_empty() { " (the end)".to_owned() } else { format!(" ({near:?})") };
        Self { position: before.chars().count().saturating_add(1), expected: expected.into(), near }
    }

    /// Never: the text must change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// An expression tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    Literal(Value),
    Attribute(Arc<str>),
    Exists(Arc<str>),
    Not(Box<Self>),
    Minus(Box<Self>),
    /// `a + b - c`, `a = b`, `a LIKE 'b'`: an operand and what is done to it, from left to right, at least one step. Flat,
    /// like [`Self::Logic`], so that long chains nest nothing.
    Chain(Box<Self>, Vec<Step>),
    /// `a AND b OR c`: each operand with the operator behind it, then the last.
    Logic(Vec<(Self, Logic)>, Box<Self>),
    Call(Function, Vec<Self>),
    /// A function that does not exist: evaluating it is an error, not parsing it.
    Unknown {
        name: Arc<str>,
        arguments: usize,
    },
}

/// What is done to the value on the left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Arithmetic(Arithmetic, Expr),
    Compare(Compare, Expr),
    Like { pattern: Pattern, negated: bool },
    In { set: Vec<Expr>, negated: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
    Xor,
}

impl Step {
    /// The type of what comes out.
    pub(super) fn returns(&self) -> Type {
        match self {
            Self::Arithmetic(..) => Type::Integer,
            Self::Compare(..) | Self::Like { .. } | Self::In { .. } => Type::Boolean,
        }
    }

    fn check_functions(&self) -> Result<(), CheckError> {
        match self {
            Self::Arithmetic(_, right) | Self::Compare(_, right) => right.check_functions(),
            Self::Like { .. } => Ok(()),
            Self::In { set, .. } => set.iter().try_for_each(Expr::check_functions),
        }
    }
}

impl Expr {
    fn chain(first: Self, steps: Vec<Step>) -> Self {
        if steps.is_empty() { first } else { Self::Chain(Box::new(first), steps) }
    }

    /// What it evaluates to, if that does not depend on the event.
    pub(super) fn returns(&self) -> Option<Type> {
        match self {
            Self::Literal(value) => Some(value.type_of()),
            Self::Attribute(_) => None,
            Self::Exists(_) | Self::Not(_) | Self::Logic(..) | Self::Unknown { .. } => {
                Some(Type::Boolean)
            }
            Self::Minus(_) => Some(Type::Integer),
            Self::Chain(_, steps) => steps.last().map(Step::returns),
            Self::Call(function, _) => Some(function.returns()),
        }
    }

    pub(super) fn check_functions(&self) -> Result<(), CheckError> {
        match self {
            Self::Literal(_) | Self::Attribute(_) | Self::Exists(_) => Ok(()),
            Self::Not(operand) | Self::Minus(operand) => operand.check_functions(),
            Self::Chain(first, steps) => {
                first.check_functions()?;
                steps.iter().try_for_each(Step::check_functions)
            }
            Self::Logic(chain, last) => {
                chain.iter().try_for_each(|(operand, _)| operand.check_functions())?;
                last.check_functions()
            }
            Self::Call(_, arguments) => arguments.iter().try_for_each(Self::check_functions),
            Self::Unknown { name, arguments } => {
                Err(CheckError::Function { name: name.to_string(), arguments: *arguments })
            }
        }
    }
}

/// Parses a whole text.
pub(super) fn parse(text: &str) -> Result<Expr, ParseError> {
    if text.len() > MAX_LENGTH {
        return Err(ParseError::at(
            text,
            0,
            format!("an expression of at most {MAX_LENGTH} bytes"),
        ));
    }
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0, depth: 0 };
    let root = parser.logic()?;
    match parser.peek() {
        Token::End => Ok(root),
        _ => Err(parser.expected("an operator or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn expected(&self, what: &str) -> ParseError {
        let byte = self.tokens.get(self.at).map_or(self.text.len(), |(byte, _)| *byte);
        ParseError::at(self.text, byte, what)
    }

    fn symbol(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(symbol) if *symbol == wanted);
        self.at += usize::from(found);
        found
    }

    fn keyword(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(wanted));
        self.at += usize::from(found);
        found
    }

    /// Runs `parse` one level deeper.
    fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(self.expected(&format!("at most {MAX_DEPTH} levels of nesting")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn logic(&mut self) -> Result<Expr, ParseError> {
        let (mut chain, mut operand) = (Vec::new(), self.comparison()?);
        loop {
            let operator = if self.keyword("AND") {
                Logic::And
            } else if self.keyword("OR") {
                Logic::Or
            } else if self.keyword("XOR") {
                Logic::Xor
            } else {
                break;
            };
            chain.push((operand, operator));
            operand = self.comparison()?;
        }
        Ok(if chain.is_empty() { operand } else { Expr::Logic(chain, Box::new(operand)) })
    }

    fn comparison(&mut self) -> Result<Expr, ParseError> {
        const OPERATORS: [(&str, Compare); 7] = [
            ("=", Compare::Equal),
            ("!=", Compare::Unequal),
            ("<>", Compare::Unequal),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        self.left(&OPERATORS, Self::additive, Step::Compare)
    }

    fn additive(&mut self) -> Result<Expr, ParseError> {
        const OPERATORS: [(&str, Arithmetic); 2] =
            [("+", Arithmetic::Add), ("-", Arithmetic::Subtract)];
        self.left(&OPERATORS, Self::multiplicative, Step::Arithmetic)
    }

    fn multiplicative(&mut self) -> Result<Expr, ParseError> {
        const OPERATORS: [(&str, Arithmetic); 3] =
            [("*", Arithmetic::Multiply), ("/", Arithmetic::Divide), ("%", Arithmetic::Remainder)];
        self.left(&OPERATORS, Self::test, Step::Arithmetic)
    }

    /// Operators of one rank that group to the left.
    fn left<T: Copy>(
        &mut self,
        operators: &[(&str, T)],
        operand: fn(&mut Self) -> Result<Expr, ParseError>,
        step: fn(T, Expr) -> Step,
    ) -> Result<Expr, ParseError> {
        let first = operand(self)?;
        let mut steps = Vec::new();
        while let Some((_, operator)) = operators.iter().find(|(symbol, _)| self.symbol(symbol)) {
            steps.push(step(*operator, operand(self)?));
        }
        Ok(Expr::chain(first, steps))
    }

    /// LIKE and IN, behind their operand.
    fn test(&mut self) -> Result<Expr, ParseError> {
        let operand = self.unary()?;
        let mut steps = Vec::new();
        loop {
            let before = self.at;
            let negated = self.keyword("NOT");
            if self.keyword("LIKE") {
                let Token::Text(pattern) = self.peek().clone() else {
                    return Err(self.expected("a quoted pattern"));
                };
                self.at += 1;
                steps.push(Step::Like { pattern: Pattern::new(&pattern), negated });
            } else if self.keyword("IN") {
                let set = self.nested(Self::list)?;
                if set.is_empty() {
                    return Err(self.expected("at least one value in the set"));
                }
                steps.push(Step::In { set, negated });
            } else {
                self.at = before;
                return Ok(Expr::chain(operand, steps));
            }
        }
    }

    fn unary(&mut self) -> Result<Expr, ParseError> {
        if self.keyword("NOT") {
            return Ok(Expr::Not(Box::new(self.nested(Self::unary)?)));
        }
        if self.symbol("-") {
            if let Token::Number(negative) = *self.peek() {
                self.at += 1;
                return Ok(Expr::Literal(Value::Integer(negative)));
            }
            return Ok(Expr::Minus(Box::new(self.nested(Self::unary)?)));
        }
        if self.symbol("+") {
            return match *self.peek() {
                Token::Number(_) => self.atom(),
                _ => Err(self.expected("a number")),
            };
        }
        if self.keyword("EXISTS") {
            return match self.peek().clone() {
                Token::Word(name) if is_attribute(&name) => {
                    self.at += 1;
                    Ok(Expr::Exists(name.to_ascii_lowercase().into()))
                }
                _ => Err(self.expected("an attribute name")),
            };
        }
        self.atom()
    }

    fn atom(&mut self) -> Result<Expr, ParseError> {
        if self.symbol("(") {
            let inner = self.nested(Self::logic)?;
            return if self.symbol(")") { Ok(inner) } else { Err(self.expected("\")\"")) };
        }
        let atom = match self.peek().clone() {
            Token::Text(text) => Expr::Literal(Value::String(text)),
            // The lexer negates, so that the most negative number has a form.
            Token::Number(negative) => {
                let number = negative.checked_neg();
                Expr::Literal(Value::Integer(
                    number.ok_or_else(|| self.expected("a number of 32 bits"))?,
                ))
            }
            Token::Word(word) if word.eq_ignore_ascii_case("TRUE") => {
                Expr::Literal(Value::Boolean(true))
            }
            Token::Word(word) if word.eq_ignore_ascii_case("FALSE") => {
                Expr::Literal(Value::Boolean(false))
            }
            Token::Word(word) => return self.name(&word),
            Token::Symbol(_) | Token::End => {
                return Err(self.expected("a value, an attribute name, a function or \"(\""));
            }
        };
        self.at += 1;
        Ok(atom)
    }

    /// A function call, or an attribute.
    fn name(&mut self, word: &Arc<str>) -> Result<Expr, ParseError> {
        let next = self.tokens.get(self.at.saturating_add(1)).map(|(_, token)| token);
        if next == Some(&Token::Symbol("(")) && is_function(word) {
            self.at += 1;
            let arguments = self.nested(Self::list)?;
            return Ok(match Function::find(word, arguments.len()) {
                Some(function) => Expr::Call(function, arguments),
                None => Expr::Unknown { name: word.clone(), arguments: arguments.len() },
            });
        }
        if !is_attribute(word) {
            return Err(self.expected("a value, an attribute name, a function or \"(\""));
        }
        self.at += 1;
        Ok(Expr::Attribute(word.to_ascii_lowercase().into()))
    }

    /// Expressions in brackets, between commas; may be empty.
    fn list(&mut self) -> Result<Vec<Expr>, ParseError> {
        if !self.symbol("(") {
            return Err(self.expected("\"(\""));
        }
        let mut list = Vec::new();
        if self.symbol(")") {
            return Ok(list);
        }
        loop {
            list.push(self.logic()?);
            if self.symbol(")") {
                return Ok(list);
            }
            if !self.symbol(",") {
                return Err(self.expected("\",\" or \")\""));
            }
        }
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

fn is_function(word: &str) -> bool {
    !is_keyword(word) && word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

fn is_attribute(word: &str) -> bool {
    !is_keyword(word) && !word.contains('_')
}
