//! What programs print, as lines of the log.

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest line that is logged, bytes; what is longer is cut off. A log is read by people.
const MAX_LINE: usize = 8 << 10;

/// How much is read at once: what a pipe commonly holds.
const CHUNK: usize = 16 << 10;

/// Makes lines of what comes in pieces.
#[derive(Debug)]
pub(super) struct Lines {
    container: String,
    stream: &'static str,
    line: Vec<u8>,
    is_cut: bool,
}

impl Lines {
    /// Of a container's `stdout` or `stderr`.
    pub(super) fn new(container: &str, stream: &'static str) -> Self {
        Self { container: container.to_owned(), stream, line: Vec::new(), is_cut: false }
    }

    /// Logs the lines that are complete.
    pub(super) fn log(&mut self, bytes: &[u8]) {
        let (container, stream) = (self.container.clone(), self.stream);
        self.take(bytes, &mut |line| tracing::info!(container, stream, "{line}"));
    }

    /// Logs what is left at the end.
    pub(super) fn log_rest(&mut self) {
        if !self.line.is_empty() {
            self.log(b"\n");
        }
    }

    fn take(&mut self, bytes: &[u8], write: &mut dyn FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let fitting = text.get(..MAX_LINE - self.line.len()).unwrap_or(text);
            self.line.extend_from_slice(fitting);
            self.is_cut |= fitting.len() < text.len();
            if text.len() < piece.len() {
                write(&self.shown());
                self.line.clear();
                self.is_cut = false;
            }
        }
    }

    /// The line without what could steer a terminal.
    fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.line);
        let mut text =
            text.trim_end().replace(|one: char| one.is_control() && one != '\t', "\u{fffd}");
        if self.is_cut {
            text.push('…');
        }
        text
    }
}

/// One of a process' streams.
#[derive(Debug)]
pub(super) struct Output<R> {
    from: R,
    chunk: Vec<u8>,
    lines: Lines,
}

impl<R: AsyncRead + Unpin> Output<R> {
    pub(super) fn new(from: R, lines: Lines) -> Self {
        Self { from, chunk: vec![0; CHUNK], lines }
    }

    /// Logs what comes until the end of it. May be dropped and called again.
    pub(super) async fn follow(&mut self) {
        // What cannot be read any more ended as well.
        while let Ok(length @ 1..) = self.from.read(&mut self.chunk).await {
            self.lines.log(self.chunk.get(..length).unwrap_or_default());
        }
        self.lines.log_rest();
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, MAX_LINE};

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut written) = (Lines::new("c", "stdout"), Vec::new());
        for piece in pieces {
            lines.take(piece, &mut |line| written.push(line.to_owned()));
        }
        written
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(lines(&[b"a", b"b\nc\r\n\n", b"d"]), ["ab", "c", ""]);
    }

    #[test]
    fn a_line_without_an_end_is_kept_up_to_a_bound() {
        let long = vec![b'x'; MAX_LINE];
        let written = lines(&[&long, b"y", b"z\nnext\n"]);
        assert_eq!(written[0].len(), MAX_LINE + "…".len());
        assert!(written[0].ends_with("x…"));
        assert_eq!(written[1], "next");
    }

    #[test]
    fn no_line_steers_a_terminal() {
        assert_eq!(lines(&[b"\x1b[31mred\tand \xff\n"]), ["\u{fffd}[31mred\tand \u{fffd}"]);
    }
}
