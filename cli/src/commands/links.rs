//! `objsync links`: who was let in.

use clap::Args;
use objsync::Grant;
use serde_json::json;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::output::Output;

/// Arguments of `links`.
#[derive(Debug, Args)]
pub(crate) struct Links {}

impl Links {
    /// Prints one grant a line: the key's start, what for, which rights, whose.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let grants = connection.open_to_read()?.grants().wait()?;
        for grant in &grants {
            output.line(&if output.json() {
                as_json(grant)
            } else {
                as_text(grant)
            })?;
        }
        if grants.is_empty() {
            output.note("no links; objsync link makes one");
        }
        Ok(Answer::Yes)
    }
}

fn as_json(grant: &Grant) -> String {
    json!({
        "peer": grant.peer.to_string(),
        "scope": grant.scope,
        "rights": grant.rights,
        "expires_ms": grant.expires_ms,
        "label": grant.label,
    })
    .to_string()
}

fn as_text(grant: &Grant) -> String {
    let peer = grant.peer.to_string();
    let rights = grant.rights.join("+");
    let label = if grant.label.is_empty() {
        "-"
    } else {
        &grant.label
    };
    format!(
        "{}  {:<20}  {rights:<10}  {label}",
        &peer[..16],
        grant.scope
    )
}
