//! Output of the program: results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use gstmfr::io::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Standard output, buffered; line by line on a terminal.
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

    /// Flushes the buffer. It must be called at the end, because an error on drop would be lost.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Prints an error message. If that fails too, there is nothing left to do.
pub fn error(message: &str) {
    let _ = writeln!(io::stderr(), "mfr-enroll: {}", printable_lines(message));
}

/// Prints a warning about a problem that does not stop the run.
pub fn warning(message: &str) {
    let _ = writeln!(
        io::stderr(),
        "mfr-enroll: warning: {}",
        printable_lines(message)
    );
}

/// Prints information.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr(), "mfr-enroll: {}", printable_lines(message));
}

/// A progress bar if standard error is a terminal, and nothing otherwise.
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

/// Makes a name or path safe for a terminal, in one line: control characters could rewrite the screen.
pub fn plain(text: &str) -> String {
    text::printable(text)
}

/// Makes a text of several lines safe for a terminal.
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
