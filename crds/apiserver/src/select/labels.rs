//! Label selectors: `key`, `!key`, `key=value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key>1`, `key<1`.

use std::collections::BTreeSet;
use std::fmt;

use crds::name;

/// What one label must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requirement {
    pub(super) key: String,
    operator: Operator,
    /// One for comparisons, none for existence.
    values: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Missing,
    Equal,
    DoubleEqual,
    NotEqual,
    In,
    NotIn,
    Greater,
    Less,
}

impl Requirement {
    pub(super) fn matches(&self, value: Option<&str>) -> bool {
        let compares = |decide: fn(i64, i64) -> bool| {
            let limit = self.values.first().and_then(|limit| limit.parse::<i64>().ok());
            let value = value.and_then(|value| value.parse::<i64>().ok());
            value.zip(limit).is_some_and(|(value, limit)| decide(value, limit))
        };
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::Missing => value.is_none(),
            Operator::Equal | Operator::DoubleEqual | Operator::In => {
                value.is_some_and(|value| self.values.contains(value))
            }
            Operator::NotEqual | Operator::NotIn => {
                value.is_none_or(|value| !self.values.contains(value))
            }
            Operator::Greater => compares(|value, limit| value > limit),
            Operator::Less => compares(|value, limit| value < limit),
        }
    }

    /// Checks what the grammar does not: the words of a key and of values.
    fn new(key: String, operator: Operator, values: BTreeSet<String>) -> Result<Self, String> {
        let mut wrong = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let compares = matches!(operator, Operator::Greater | Operator::Less);
            if compares && value.parse::<i64>().is_err() {
                wrong.push(format!(
                    "values[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                ));
            }
            if let Err(rule) = name::label_value(value) {
                wrong.push(format!("values[{index}][{key}]: Invalid value: {value:?}: {rule}"));
            }
        }
        match wrong.len() {
            0 => Ok(Self { key, operator, values }),
            1 => Err(wrong.concat()),
            _ => Err(format!("[{}]", wrong.join(", "))),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        let (key, values) = (&self.key, values.join(","));
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::Missing => write!(f, "!{key}"),
            Operator::Equal => write!(f, "{key}={values}"),
            Operator::DoubleEqual => write!(f, "{key}=={values}"),
            Operator::NotEqual => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Greater => write!(f, "{key}>{values}"),
            Operator::Less => write!(f, "{key}<{values}"),
        }
    }
}

/// Reads a selector.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: tokens(text), position: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::Word(_) | Token::Not => {
                let requirement = parser
                    .requirement()
                    .map_err(|why| format!("unable to parse requirement: {why}"))?;
                requirements.push(requirement);
                match parser.take() {
                    Token::End => return Ok(requirements),
                    Token::Comma if matches!(parser.peek(), Token::Word(_) | Token::Not) => {}
                    Token::Comma => {
                        let found = parser.peek();
                        return Err(format!("found '{found}', expected: identifier after ','"));
                    }
                    found => {
                        return Err(format!("found '{found}', expected: ',' or 'end of string'"));
                    }
                }
            }
            Token::End => return Ok(requirements),
            found => {
                return Err(format!(
                    "found '{found}', expected: !, identifier, or 'end of string'"
                ));
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A key or a value; `in` and `notin` as well, which are operators only where one is expected.
    Word(String),
    Not,
    Equal,
    DoubleEqual,
    NotEqual,
    Greater,
    Less,
    Open,
    Close,
    Comma,
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word(word) => word,
            Self::Not => "!",
            Self::Equal => "=",
            Self::DoubleEqual => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::End => "",
        })
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let special = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
    let space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        let token = match first {
            c if space(c) => continue,
            '=' if chars.next_if_eq(&'=').is_some() => Token::DoubleEqual,
            '=' => Token::Equal,
            '!' if chars.next_if_eq(&'=').is_some() => Token::NotEqual,
            '!' => Token::Not,
            '>' => Token::Greater,
            '<' => Token::Less,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            first => {
                let mut word = String::from(first);
                while let Some(next) = chars.next_if(|c| !special(*c) && !space(*c)) {
                    word.push(next);
                }
                Token::Word(word)
            }
        };
        tokens.push(token);
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    position: usize,
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.position).cloned().unwrap_or(Token::End)
    }

    fn take(&mut self) -> Token {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut token = self.take();
        let missing = token == Token::Not;
        if missing {
            token = self.take();
        }
        let Token::Word(key) = token else {
            return Err(format!("found '{token}', expected: identifier"));
        };
        if let Err(rule) = name::qualified(&key) {
            return Err(format!("<nil>: Invalid value: {key:?}: {rule}"));
        }
        let ends = matches!(self.peek(), Token::End | Token::Comma);
        let (operator, values) = if missing {
            (Operator::Missing, BTreeSet::new())
        } else if ends {
            (Operator::Exists, BTreeSet::new())
        } else {
            let operator = self.operator()?;
            let values = match operator {
                Operator::In | Operator::NotIn => self.values()?,
                _ => self.value()?,
            };
            (operator, values)
        };
        Requirement::new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        match self.take() {
            Token::Equal => Ok(Operator::Equal),
            Token::DoubleEqual => Ok(Operator::DoubleEqual),
            Token::NotEqual => Ok(Operator::NotEqual),
            Token::Greater => Ok(Operator::Greater),
            Token::Less => Ok(Operator::Less),
            Token::Word(word) if word == "in" => Ok(Operator::In),
            Token::Word(word) if word == "notin" => Ok(Operator::NotIn),
            found => Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn value(&mut self) -> Result<BTreeSet<String>, String> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.take() {
            Token::Word(word) => Ok(BTreeSet::from([word])),
            found => Err(format!("found '{found}', expected: identifier")),
        }
    }

    /// A list in parentheses, in which an omitted value is the empty one.
    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let open = self.take();
        if open != Token::Open {
            return Err(format!("found '{open}' expected: '('"));
        }
        let mut values = BTreeSet::new();
        let mut pending = String::new();
        let mut expects_value = true;
        loop {
            match self.take() {
                Token::Word(word) if expects_value => {
                    pending = word;
                    expects_value = false;
                }
                Token::Comma => {
                    values.insert(std::mem::take(&mut pending));
                    expects_value = true;
                }
                Token::Close => {
                    values.insert(pending);
                    return Ok(values);
                }
                found if expects_value && values.is_empty() => {
                    return Err(format!("found '{found}', expected: ',', ')' or identifier"));
                }
                found if expects_value => {
                    return Err(format!("found '{found}', expected: ',', or identifier"));
                }
                found => return Err(format!("found '{found}', expected: ',' or ')'")),
            }
        }
    }
}
