//! `objsync status`: how a store and its owner are.

use clap::Args;
use objsync::{FollowStatus, IndexBuild, OwnerStatus, Revision};
use serde_json::{Value as Json, json};

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::output::{self, Output};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Status {
    /// Asks the owner; one round trip.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let dict = connection.open_to_read()?;
        let owner = dict.owner_status().wait()?;
        let own = dict.status();
        let following = dict.following().wait()?;
        if output.json() {
            let status = as_json(&own, &owner, following.as_ref());
            output.line(&status.to_string())?;
            return Ok(Answer::Yes);
        }
        let position = &owner.position;
        output.line(&output::table(&[
            (
                "dictionary",
                format!("{}, {} keys", own.namespace, owner.keys),
            ),
            (
                "served at",
                owner.address.unwrap_or_else(|| String::from("no address")),
            ),
            ("directory", owner.directory),
            (
                "owner",
                format!(
                    "{}, pid {}, for {} s",
                    owner.program, owner.pid, owner.uptime_s
                ),
            ),
            ("store", position.store.to_string()),
            (
                "revision",
                format!("{} in epoch {}", position.revision, position.epoch.number),
            ),
            (
                "on disk",
                format!("{}, indexed {}", owner.durable, owner.indexed),
            ),
            (
                "peers",
                format!("{}, {} subscriptions", owner.peers, owner.subscriptions),
            ),
            ("log", output::bytes(owner.log_bytes)),
            ("snapshots", output::bytes(owner.snapshot_bytes)),
            ("index", index(owner.index_bytes, owner.index_build)),
        ]))?;
        if let Some(following) = following {
            output.line(&output::table(&[("follows", follows(&following))]))?;
        }
        Ok(Answer::Yes)
    }
}

fn as_json(own: &objsync::Status, owner: &OwnerStatus, following: Option<&FollowStatus>) -> Json {
    json!({
        "role": own.role.to_string(),
        "namespace": own.namespace,
        "keys": owner.keys,
        "address": owner.address,
        "directory": owner.directory,
        "pid": owner.pid,
        "program": owner.program,
        "store": owner.position.store.to_string(),
        "epoch": owner.position.epoch.number,
        "revision": owner.position.revision.0,
        "durable": owner.durable.0,
        "indexed": owner.indexed.0,
        "peers": owner.peers,
        "subscriptions": owner.subscriptions,
        "log_bytes": owner.log_bytes,
        "snapshot_bytes": owner.snapshot_bytes,
        "index_bytes": owner.index_bytes,
        "index_build": owner.index_build.map(|build| json!({
            "revision": build.revision.0,
            "done": build.done_count,
            "total": build.total_count,
        })),
        "uptime_s": owner.uptime_s,
        "follows": following.map(|following| json!({
            "source": following.source,
            "connected": following.is_connected,
            "source_revision": following.source_revision.0,
            "revision": following.revision.0,
            "lag": following.lag(),
            "behind_ms": following.behind_ms,
            "trouble": following.trouble,
        })),
    })
}

/// How far a copy is behind its source.
fn follows(following: &FollowStatus) -> String {
    let lag = following.lag();
    let behind = match following.behind_ms {
        Some(0) => String::from("up to date"),
        Some(ms) => format!("{lag} revisions and {} ms behind", ms),
        None => format!("{lag} revisions behind, and was never up to date"),
    };
    let source = &following.source;
    match following.is_connected {
        true => format!("{source}, {behind}"),
        false => format!("{source}, {behind}: {}", following.trouble),
    }
}

/// The index, or how far it is while snapshot and footers answer in its place.
fn index(bytes: u64, build: Option<IndexBuild>) -> String {
    let Some(build) = build else {
        return output::bytes(bytes);
    };
    if build.revision > Revision(0) {
        return format!("reads the log up to revision {}", build.revision);
    }
    match (build.done_count * 100).checked_div(build.total_count) {
        Some(percent) => format!("is made again, {percent} % of the snapshot"),
        None => String::from("is opened"),
    }
}
