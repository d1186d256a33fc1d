//! What the program says: results on standard output, the rest on standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use gstmfr::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Standard output, buffered; a line at a time where somebody watches.
#[derive(Debug)]
pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
}

impl Output {
    pub fn stdout() -> Self {
        let out = io::stdout().lock();
        Self {
            is_terminal: out.is_terminal(),
            out: BufWriter::new(out),
        }
    }

    /// Prints a text.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        self.raw_line(&printable_lines(&text.to_string()))
    }

    /// Prints a value as JSON in one line.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let json = serde_json::to_string(value)?;
        self.raw_line(&text::escape_json(&json))
    }

    fn raw_line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        if self.is_terminal {
            self.out.flush()?;
        }
        Ok(())
    }

    /// Whatever is still buffered. To be called at the end: an error at drop would be lost.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Says what went wrong. Nothing is left to be done where even that fails.
pub fn error(message: &str) {
    let _ = writeln!(io::stderr(), "mfr-enroll: {}", printable_lines(message));
}

/// Says what the user ought to know though the work goes on.
pub fn warning(message: &str) {
    let _ = writeln!(
        io::stderr(),
        "mfr-enroll: warning: {}",
        printable_lines(message)
    );
}

/// Says what the user may want to know.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr(), "mfr-enroll: {}", printable_lines(message));
}

/// A bar on standard error while somebody watches, and nothing otherwise.
pub fn progress(what: &'static str, count: usize) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(count as u64), target);
    if let Ok(style) =
        ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}, {per_sec} photos, {eta} left")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar
}

/// A name or path as it can be shown on a terminal, in one line: control characters could rewrite the screen.
pub fn plain(text: &str) -> String {
    text::printable(text)
}

/// The same for a text of several lines.
fn printable_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(text::printable).collect();
    lines.join("\n")
}

/// `1 photo`, `2 photos`.
pub fn counted(count: usize, what: &str) -> String {
    let plural = match what {
        "person" if count != 1 => return format!("{count} people"),
        _ if count == 1 => "",
        _ => "s",
    };
    format!("{count} {what}{plural}")
}
