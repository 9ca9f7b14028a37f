//! Patterns of LIKE: `%` any characters, `_` one, a backslash before either takes it literally.

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Char(char),
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let part = match (c, chars.peek()) {
                ('\\', Some(next @ ('%' | '_'))) => {
                    let part = Part::Char(*next);
                    chars.next();
                    part
                }
                ('%', _) => Part::Any,
                ('_', _) => Part::One,
                (c, _) => Part::Char(c),
            };
            // Two in a row mean what one means, and one is faster.
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        Self(parts)
    }

    /// Whether all of `text` fits; `None` when that takes more than `steps`, from which those taken are taken away. It
    /// takes at most the product of both lengths: only the last `%` is ever tried again.
    pub(super) fn matches(&self, text: &str, steps: &mut usize) -> Option<bool> {
        let (mut rest, mut at) = (text.chars(), 0);
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            *steps = steps.checked_sub(1)?;
            match self.0.get(at) {
                Some(Part::Any) => {
                    at += 1;
                    retry = Some((at, rest.clone()));
                    continue;
                }
                Some(part) => {
                    if let Some(c) = rest.next() {
                        if *part == Part::One || *part == Part::Char(c) {
                            at += 1;
                            continue;
                        }
                    } else {
                        return Some(false);
                    }
                }
                None if rest.as_str().is_empty() => return Some(true),
                None => {}
            }
            let Some((after, mut from)) = retry.take() else { return Some(false) };
            if from.next().is_none() {
                return Some(false);
            }
            (at, rest) = (after, from.clone());
            retry = Some((after, from));
        }
    }
}
