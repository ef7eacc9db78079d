//! `objsync status`: how a store and its owner are.

use clap::Args;
use objsync::{
    CompressionStatus, Dict, FollowStatus, IndexBuild, KeyRange, OwnerStatus, Revision, limits,
};
use serde_json::{Value as Json, json};

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::output::{self, Output};
use crate::target::IfMissing;

/// Values that are read to tell how well they are compressed.
const VALUES_MAX: usize = 1_000;
/// Bytes of a stored value beside its payload.
const HEADER_BYTES: u64 = 3;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {}

impl Status {
    /// Asks the owner, and reads some values.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let dict = connection.open_with(IfMissing::Refuse, |options| {
            options.readonly = true;
            // Nothing is packed by a handle that only reads; but it counts what it unpacks.
            options.compression = Some(limits::COMPRESSION_LEVEL_MIN);
        })?;
        let owner = dict.owner_status().wait()?;
        let own = dict.status();
        let following = dict.following().wait()?;
        let compression = compression(&dict);
        if output.json() {
            let status = as_json(&own, &owner, (following.as_ref(), compression.as_ref()));
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
        if let Some(compression) = compression {
            let text = compresses(&compression);
            output.line(&output::table(&[("compression", text)]))?;
        }
        if let Some(following) = following {
            output.line(&output::table(&[("follows", follows(&following))]))?;
        }
        Ok(Answer::Yes)
    }
}

/// How the first values are compressed; none where they are not, or may not be read.
fn compression(dict: &Dict) -> Option<CompressionStatus> {
    let values = dict.scan(KeyRange::default(), false).ok()?;
    // Each is counted as it is read.
    values.take(VALUES_MAX).find(Result::is_err);
    let status = dict.status().compression?;
    let is_compressed = status.plain_bytes + status.values * HEADER_BYTES > status.stored_bytes;
    (is_compressed || status.dictionary.is_some()).then_some(status)
}

fn compresses(status: &CompressionStatus) -> String {
    let ratio = status.ratio().unwrap_or(1.0);
    let trained = status.trained_ms.and_then(crate::json::instant_text);
    let dictionary = match (status.dictionary, trained) {
        (Some(id), Some(time)) => format!("dictionary {id} of {time}"),
        _ => String::from("no dictionary"),
    };
    format!("{ratio:.2} times in {} values, {dictionary}", status.values)
}

fn as_json(
    own: &objsync::Status,
    owner: &OwnerStatus,
    (following, compression): (Option<&FollowStatus>, Option<&CompressionStatus>),
) -> Json {
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
        "compression": compression.map(|status| json!({
            "values": status.values,
            "plain_bytes": status.plain_bytes,
            "stored_bytes": status.stored_bytes,
            "ratio": status.ratio(),
            "dictionary": status.dictionary,
            "trained_ms": status.trained_ms,
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
