//! Text to tokens.

use std::sync::Arc;

use super::parser::ParseError;

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Keyword, attribute or function name, as written.
    Word(Arc<str>),
    Number(i32),
    Text(Arc<str>),
    /// An operator or a bracket.
    Symbol(&'static str),
    End,
}

/// Longest first: `<=` is one symbol.
const SYMBOLS: [&str; 15] =
    ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", ",", "+", "-", "*", "/", "%"];

/// The tokens with the byte each starts at; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ParseError> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(next) = rest(text, at).chars().next() {
        if next.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let (token, length) = token(text, at, next)?;
        tokens.push((at, token));
        at += length;
    }
    tokens.push((at, Token::End));
    Ok(tokens)
}

fn rest(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or_default()
}

fn token(text: &str, at: usize, next: char) -> Result<(Token, usize), ParseError> {
    let rest = rest(text, at);
    if next == '\'' || next == '"' {
        return literal(rest, next).ok_or_else(|| ParseError::at(text, at, "the closing quote"));
    }
    if next.is_ascii_alphanumeric() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if !word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok((Token::Word(word.into()), word.len()));
        }
        // One more than the largest number is the most negative one, behind a minus; the parser folds it.
        let number = word.parse::<i64>().ok().and_then(|number| i32::try_from(-number).ok());
        let number = number.ok_or_else(|| ParseError::at(text, at, "a number of 32 bits"))?;
        return Ok((Token::Number(number), word.len()));
    }
    let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
    symbol
        .map(|symbol| (Token::Symbol(symbol), symbol.len()))
        .ok_or_else(|| ParseError::at(text, at, "an operator, a name or a value"))
}

/// A quoted text: a backslash before the quote, and a doubled quote, stand for the quote. Any other backslash stays, also
/// one before another, as in the specification's grammar and Knative's engine: LIKE looks for it before its wildcards.
fn literal(rest: &str, quote: char) -> Option<(Token, usize)> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            if chars.peek().is_none_or(|(_, next)| *next != quote) {
                return Some((Token::Text(out.into()), at + quote.len_utf8()));
            }
            chars.next();
            out.push(quote);
        } else if c == '\\' {
            let (_, escaped) = chars.next()?;
            if escaped != quote {
                out.push('\\');
            }
            out.push(escaped);
        } else {
            out.push(c);
        }
    }
    None
}
