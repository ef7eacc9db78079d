//! How the program ends: exit codes, and what to do about each failure.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use objsync::{ErrorKind, ObjectError};
use serde_json::json;

use crate::output::Output;

/// What `--help` says below the arguments. A test compares it with [`code`].
pub(crate) const HELP: &str = "\
Keys are text, values are JSON; what is not JSON is text too. docs/cli.md has the details.

Exit codes:
  0   done                       15  unavailable: nobody answered, nothing was done
  1   not found, or the answer   16  corrupt: stored bytes are damaged
      is no                      17  full: no room
  2   wrong usage                18  closed: the store refuses writes until reopened
  11  invalid                    19  outcome unknown: a write may have happened
  12  no such thing              20  unsupported: a newer format or protocol
  13  conflict                   21  interrupted
  14  denied";

/// The exit code of wrong usage, as clap uses it too.
const USAGE: u8 = 2;

/// What a command that did not fail has to say to the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done, or the answer is yes.
    Yes,
    /// There was no such key, or the answer is no.
    No,
    /// What a command that was run ended with.
    Code(u8),
}

impl From<Answer> for ExitCode {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Yes => Self::SUCCESS,
            Answer::No => Self::from(1),
            Answer::Code(code) => Self::from(code),
        }
    }
}

/// The exit code of a kind of failure.
pub(crate) fn code(kind: ErrorKind) -> u8 {
    10 + kind.number()
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments, or what was read as a key or a value, make no sense.
    Usage(String),
    /// The dictionary said no, or could not be reached.
    Object {
        /// What it said.
        error: ObjectError,
        /// What to do about it, where that is known better here than from the kind.
        hint: Option<String>,
    },
    /// A file or a stream failed.
    Io {
        /// What was done, such as "read".
        op: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Failure {
    /// A failure to write to standard output.
    pub(crate) fn stdout(source: io::Error) -> Self {
        Self::Io {
            op: "write",
            path: PathBuf::from("standard output"),
            source,
        }
    }

    /// There is nothing under a path.
    pub(crate) fn missing(path: &Path) -> Self {
        let source = io::Error::from(io::ErrorKind::NotFound);
        Self::Io {
            op: "open",
            path: path.to_path_buf(),
            source,
        }
    }

    /// The failure with a better hint than its kind gives.
    pub(crate) fn with_hint(error: ObjectError, hint: impl Into<String>) -> Self {
        Self::Object {
            error,
            hint: Some(hint.into()),
        }
    }

    /// Says on standard error what happened and what to do next.
    pub(crate) fn report(self, output: &Output) -> ExitCode {
        // Whoever reads us has read enough: `objsync ls | head -1` is no failure.
        if let Self::Io { source, .. } = &self
            && source.kind() == io::ErrorKind::BrokenPipe
        {
            return ExitCode::SUCCESS;
        }
        let (kind, message, hint) = self.parts();
        if output.json() {
            let mut error = json!({"kind": kind, "message": message, "hint": hint});
            if let Self::Object {
                error: ObjectError::PastRetention { revision, oldest },
                ..
            } = &self
            {
                error["revision"] = json!(revision.0);
                error["oldest"] = json!(oldest.0);
            }
            output.error_line(&json!({ "error": error }).to_string());
        } else {
            output.error(&message, hint.as_deref());
        }
        ExitCode::from(self.code())
    }

    /// What happened, for a person.
    pub(crate) fn message(&self) -> String {
        self.parts().1
    }

    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Object { error, .. } => code(error.kind()),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                code(ErrorKind::Full)
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                code(ErrorKind::NotFound)
            }
            Self::Io { .. } => code(ErrorKind::Unavailable),
        }
    }

    fn parts(&self) -> (&'static str, String, Option<String>) {
        match self {
            Self::Usage(message) => (
                "usage",
                message.clone(),
                Some(String::from("objsync help says what is possible")),
            ),
            Self::Object { error, hint } => {
                let hint = hint
                    .clone()
                    .or_else(|| hint_for(error.kind()).map(String::from));
                (name(error.kind()), error.to_string(), hint)
            }
            Self::Io { op, path, source } => {
                ("io", format!("{op} {}: {source}", path.display()), None)
            }
        }
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        Self::Object { error, hint: None }
    }
}

/// The name of a kind in JSON.
fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Denied => "denied",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Full => "full",
        ErrorKind::Closed => "closed",
        ErrorKind::OutcomeUnknown => "outcome_unknown",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Interrupted => "interrupted",
        _ => "unknown",
    }
}

/// What to do about a failure of this kind, when nothing better is known.
fn hint_for(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::Conflict => "somebody else changed it in between: read it again, then decide",
        ErrorKind::Denied => {
            "ask whoever runs the server for a link (objsync link) and give it with --to"
        }
        ErrorKind::Unavailable => "is it running? objsync status asks, --timeout waits longer",
        ErrorKind::Corrupt => {
            "objsync check DIRECTORY says what is damaged; objsync repair saves what is sound"
        }
        ErrorKind::Full => "make room, then try again; what was acknowledged is safe",
        ErrorKind::Closed => "the owner stopped writing after a failed write: restart it",
        ErrorKind::OutcomeUnknown => "the write may have happened: look before you repeat it",
        ErrorKind::Unsupported => "a newer objsync wrote or serves this: upgrade this one",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_the_exit_code_of_every_kind() {
        for kind in ErrorKind::ALL {
            assert!(
                HELP.contains(&format!("{}  ", code(kind))),
                "{kind:?} is {}",
                code(kind)
            );
            assert_ne!(name(kind), "unknown", "{kind:?} has a name in JSON");
        }
    }

    #[test]
    fn exit_codes_of_failures_never_meet_those_of_answers_or_of_usage() {
        for kind in ErrorKind::ALL {
            assert!((11..64).contains(&code(kind)));
        }
    }
}
