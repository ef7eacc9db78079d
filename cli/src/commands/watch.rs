//! `objsync watch`: print changes as they happen, each once and in order.

use std::time::{Duration, Instant};

use clap::Args;
use objsync::{ChangeKind, KeyRange, Revision, WatchEvent};
use serde_json::{Value as Json, json};

use crate::args::{self, Connection};
use crate::exit::{Answer, Failure};
use crate::input::{self, KeyForm};
use crate::json;
use crate::output::{Colour, Output};

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only keys of text that start so
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,

    /// Only this key
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    key: Option<String>,

    #[command(flatten)]
    form: KeyForm,

    /// Also what happened after this revision, as far back as the log goes
    #[arg(long, value_name = "REVISION")]
    since: Option<u64>,

    /// Stop after so many changes
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,

    /// Stop after so long; the answer is no if --count was not reached
    #[arg(long, value_name = "SECONDS", value_parser = args::seconds)]
    stop_after: Option<Duration>,
}

impl Watch {
    /// Prints until stopped, over reconnects and changes of owner.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let dict = connection.open_to_read()?;
        let range = match (&self.key, &self.prefix) {
            (Some(key), _) => {
                let start = self.form.read(key)?;
                let end = Some(objsync::key::successor(&start));
                KeyRange { start, end }
            }
            (None, Some(prefix)) => input::prefix(prefix),
            (None, None) => KeyRange::default(),
        };
        let watch = dict.watch(range, self.since.map(Revision))?;
        output.note(&format!("watching {}; Ctrl-C stops", connection.shown()?));
        let deadline = self.stop_after.map(|wait| Instant::now() + wait);
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let event = match deadline {
                Some(deadline) => {
                    let wait = deadline.saturating_duration_since(Instant::now());
                    watch.recv_timeout(wait)?
                }
                None => watch.recv()?,
            };
            let Some(event) = event else { break };
            let line = if output.json() {
                as_json(&event)?
            } else {
                as_text(&event, output)?
            };
            output.line(&line)?;
            left -= 1;
        }
        Ok(if left == 0 || self.count.is_none() {
            Answer::Yes
        } else {
            Answer::No
        })
    }
}

fn as_text(event: &WatchEvent, output: &Output) -> Result<String, Failure> {
    let key = output.painted(&json::shown_key(&event.key, false)?, Colour::Cyan);
    let revision = output.painted(&event.revision.to_string(), Colour::Dim);
    let (kind, colour) = match event.kind {
        ChangeKind::Set => ("set", Colour::Green),
        ChangeKind::Patch => ("patch", Colour::Green),
        ChangeKind::Delete => ("del", Colour::Red),
        ChangeKind::Expire => ("expire", Colour::Red),
    };
    let kind = output.painted(kind, colour);
    Ok(match &event.value {
        Some(payload) => {
            let value = json::shown_value(payload, true)?;
            format!("{revision} {kind} {key} {value}")
        }
        None => match &event.unread {
            Some(failure) => format!("{revision} {kind} {key} (not read: {failure})"),
            None => format!("{revision} {kind} {key}"),
        },
    })
}

fn as_json(event: &WatchEvent) -> Result<String, Failure> {
    let value = |payload: &Option<objsync::Bytes>| -> Result<Json, Failure> {
        payload
            .as_ref()
            .map_or(Ok(Json::Null), |payload| json::value_to_json(payload))
    };
    let mut line = json!({
        "kind": event.kind.to_string(),
        "key": json::key_to_json(&event.key)?,
        "revision": event.revision.0,
    });
    // None is a value too, so what is not there is left out.
    if event.value.is_some() {
        line["value"] = value(&event.value)?;
    }
    if let Some(failure) = &event.unread {
        line["unread"] = failure.to_string().into();
    }
    if event.old_value.is_some() {
        line["old_value"] = value(&event.old_value)?;
    }
    Ok(line.to_string())
}
