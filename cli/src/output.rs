//! How answers and errors look: text for people, JSON for programs; colours only on a terminal.

use std::io::{self, BufWriter, IsTerminal, Write};

use crate::exit::Failure;

/// A colour of text on a terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colour {
    /// Something is wrong.
    Red,
    /// Something is there.
    Green,
    /// A thing's name.
    Cyan,
    /// Less important than the rest.
    Dim,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Red => "31",
            Self::Green => "32",
            Self::Cyan => "36",
            Self::Dim => "2",
        }
    }
}

/// Where the answers of one run go.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    stdout_colours: bool,
    stderr_colours: bool,
}

impl Output {
    /// Text or JSON on standard output, with colours where a person looks on (and `NO_COLOR` is
    /// not set).
    pub(crate) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            json,
            stdout_colours: wanted && !json && io::stdout().is_terminal(),
            stderr_colours: wanted && io::stderr().is_terminal(),
        }
    }

    /// Whether answers are JSON.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    /// Text for standard output in a colour.
    pub(crate) fn painted(&self, text: &str, colour: Colour) -> String {
        paint(text, colour, self.stdout_colours)
    }

    /// Prints one line.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")
            .and_then(|()| out.flush())
            .map_err(Failure::stdout)
    }

    /// Standard output for many lines. Flush it at the end: a dropped one hides a full disk.
    #[expect(clippy::unused_self, reason = "all output is asked of this type")]
    pub(crate) fn lines(&self) -> impl Write {
        BufWriter::with_capacity(64 << 10, io::stdout().lock())
    }

    /// One line on standard error.
    #[expect(clippy::unused_self, reason = "all output is asked of this type")]
    pub(crate) fn error_line(&self, text: &str) {
        // Nobody can be told when standard error fails.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// What went wrong and what to do next, on standard error.
    pub(crate) fn error(&self, message: &str, hint: Option<&str>) {
        let start = paint("error:", Colour::Red, self.stderr_colours);
        self.error_line(&format!("{start} {message}"));
        if let Some(hint) = hint {
            let start = paint("  try:", Colour::Dim, self.stderr_colours);
            self.error_line(&format!("{start} {hint}"));
        }
    }

    /// Something a person at a terminal wants to know, and a program does not.
    pub(crate) fn note(&self, text: &str) {
        if !self.json && io::stderr().is_terminal() {
            self.error_line(&paint(text, Colour::Dim, self.stderr_colours));
        }
    }
}

fn paint(text: &str, colour: Colour, on: bool) -> String {
    if on {
        format!("\x1b[{}m{text}\x1b[0m", colour.code())
    } else {
        text.to_owned()
    }
}

/// Pairs as two columns.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let width = rows
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    let lines: Vec<String> = rows
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}"))
        .collect();
    lines.join("\n")
}

/// A count of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if count >= 1 << shift {
            let tenths = (u128::from(count) * 10) >> shift;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{count} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "17179869183.9 GiB");
    }

    #[test]
    fn columns_are_as_wide_as_the_longest_name() {
        assert_eq!(
            table(&[("a", "1".into()), ("long", "2".into())]),
            "a     1\nlong  2"
        );
    }

    #[test]
    fn text_without_colours_is_left_alone() {
        assert_eq!(paint("x", Colour::Red, false), "x");
        assert_eq!(paint("x", Colour::Red, true), "\x1b[31mx\x1b[0m");
    }
}
