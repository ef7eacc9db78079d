//! What can be asked: the command line as clap reads it. Each command's own arguments are in its
//! file.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    backup, bench, check, completion, del, export, get, history, import, link, links, lock, ls,
    promote, repair, restore, serve, set, status, unlink, watch,
};

/// A persistent dictionary that programs share live.
#[derive(Debug, Parser)]
#[command(name = "objsync", version, propagate_version = true, after_help = crate::exit::HELP)]
pub(crate) struct Cli {
    /// Answer in JSON: one document, or one line for each of many things
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) connection: Connection,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which dictionary is meant and how patient to be.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which dictionary")]
pub(crate) struct Connection {
    /// A server (host:port), a link (objsync://...) or the directory of a store
    #[arg(
        long,
        global = true,
        value_name = "WHERE",
        env = "OBJSYNC_TO",
        hide_env_values = true
    )]
    pub(crate) to: Option<String>,

    /// The dictionary in that store; without it, the one of the link, or `default`
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// How long to wait for an answer
    #[arg(long, global = true, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// Seconds above zero, with or without a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| String::from("seconds above zero, such as 5 or 0.5"))
}

/// A time above zero with its unit, such as 500ms, 30s, 5m, 2h or 7d; seconds without one.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    span_or_none(text)
        .ok()
        .filter(|span| !span.is_zero())
        .ok_or_else(|| String::from("a time above zero, such as 500ms, 30s, 5m, 2h or 7d"))
}

/// As [`span`], or no time at all: `0`.
pub(crate) fn span_or_none(text: &str) -> Result<Duration, String> {
    let units = [
        ("ms", 0.001),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
        ("d", 86400.0),
    ];
    let of_unit = |(unit, seconds)| Some((text.strip_suffix(unit)?, seconds));
    let (number, seconds) = units.into_iter().find_map(of_unit).unwrap_or((text, 1.0));
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .ok_or_else(|| String::from("a time, such as 0, 500ms, 30s, 5m, 2h or 7d"))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a store at an address until stopped
    Serve(serve::Serve),
    /// Print the value under a key
    Get(get::Get),
    /// Put a value under a key
    Set(set::Set),
    /// Remove keys
    Del(del::Del),
    /// List keys, or keys and values
    Ls(ls::Ls),
    /// Print what a key was, newest first
    History(history::History),
    /// Run a command while holding a lock that no other process holds
    Lock(lock::Lock),
    /// Print changes as they happen
    Watch(watch::Watch),
    /// Read JSON lines {"key": .., "value": ..} into a dictionary
    Import(import::Import),
    /// Write a dictionary as JSON lines {"key": .., "value": ..}
    Export(export::Export),
    /// Say how a store and its owner are
    Status(status::Status),
    /// Make a link that lets somebody else in
    Link(link::Link),
    /// List who was let in by links
    Links(links::Links),
    /// Take a link back and cut its connections
    Unlink(unlink::Unlink),
    /// Make a copy that follows another store a store of its own
    Promote(promote::Promote),
    /// Read every byte of a store and say what is damaged
    Check(check::Check),
    /// Save what is sound of a damaged store as a new one, and list what is lost
    Repair(repair::Repair),
    /// Copy a store as of one revision, while writes go on
    Backup(backup::Backup),
    /// Make a store of a backup
    Restore(restore::Restore),
    /// Measure a store, for a few seconds
    Bench(bench::Bench),
    /// Print the completion script of a shell
    Completion(completion::Completion),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_argument_has_a_help_text() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {} has no help",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn times_have_units_and_are_seconds_without_one() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("0.5", 500),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(span(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["0", "0s", "-1s", "s", "soon", "nan", "1e300d", ""] {
            assert!(span(text).is_err(), "{text}");
        }
        assert_eq!(span_or_none("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "inf", "1e300", "soon", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
