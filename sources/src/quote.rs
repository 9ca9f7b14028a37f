//! What others say, as it is shown in statuses and logs.

/// Characters of it that are shown: sentences are shorter, and what they quote comes from the network.
const MAX_SHOWN: usize = 300;

/// The beginning of a text from outside, on one line.
pub(crate) fn quote(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::{MAX_SHOWN, quote};

    #[test]
    fn what_is_quoted_is_short_and_on_one_line() {
        assert_eq!(quote("no\r\nrights\u{7}"), "no  rights ");
        assert_eq!(quote(&"\u{e9}".repeat(MAX_SHOWN + 1)), "\u{e9}".repeat(MAX_SHOWN));
    }
}
