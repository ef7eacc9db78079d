//! Reads: from the store of this process, from the replica, or by a round trip.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use objsync_proto::ids::Revision;
use objsync_proto::wire::{Reply, Request};

use crate::core::Core;
use crate::error::Result;
use crate::pending::unexpected_reply;
use crate::replica::{Extent, Found};
use crate::scan::Scan;

/// A payload and the revision that wrote it; none for a write that waits on this client's disk.
pub(crate) type Entry = (Bytes, Option<Revision>);

/// The payload of a key, if it can be told without waiting.
pub(crate) fn at_once(core: &Core, key: &[u8]) -> Result<Option<Option<Bytes>>> {
    core.check_open()?;
    if let Some(owner) = core.owner() {
        return if core.config.sees(key) {
            owner.get(key).map(Some)
        } else {
            Ok(Some(None))
        };
    }
    if let Some(offline) = &core.offline
        && let Some(queued) = offline.get(&core.config.packer, key)?
    {
        return Ok(Some(queued));
    }
    Ok(match core.replica.find(key, core.acked())? {
        Found::Known(value) => Some(value),
        Found::Ask | Found::Wait => None,
    })
}

/// The payload of a key.
pub(crate) async fn get(core: Arc<Core>, key: Bytes) -> Result<Option<Bytes>> {
    loop {
        if let Some(known) = at_once(&core, &key)? {
            return Ok(known);
        }
        if !core.config.sees(&key) {
            return Ok(None);
        }
        match core.replica.find(&key, core.acked())? {
            Found::Known(value) => return Ok(value),
            Found::Wait => core.readable().await?,
            Found::Ask => {
                return match core.request(Request::Get { key: key.clone() }).await? {
                    Reply::Entry { entry, .. } => opened(&core, &key, entry),
                    other => Err(unexpected_reply(&other)),
                };
            }
        }
    }
}

/// The payload of a key and the revision that wrote it, if they can be told without waiting.
pub(crate) fn entry_at_once(core: &Core, key: &[u8]) -> Result<Option<Option<Entry>>> {
    core.check_open()?;
    if !core.config.sees(key) {
        return Ok(Some(None));
    }
    if let Some(owner) = core.owner() {
        return owner.entry(key).map(Some);
    }
    if let Some(offline) = &core.offline
        && let Some(queued) = offline.get(&core.config.packer, key)?
    {
        return Ok(Some(queued.map(|payload| (payload, None))));
    }
    core.replica.entry(key, core.acked())
}

/// The payload of a key and the revision that wrote it.
pub(crate) async fn entry(core: Arc<Core>, key: Bytes) -> Result<Option<Entry>> {
    loop {
        if let Some(known) = entry_at_once(&core, &key)? {
            return Ok(known);
        }
        if matches!(core.replica.find(&key, core.acked())?, Found::Wait) {
            core.readable().await?;
            continue;
        }
        return match core.request(Request::Get { key: key.clone() }).await? {
            Reply::Entry { entry, .. } => entry
                .map(|(value, revision)| {
                    let payload = core.config.open(&key, revision, value)?;
                    Ok((payload, Some(revision)))
                })
                .transpose(),
            other => Err(unexpected_reply(&other)),
        };
    }
}

/// The payload of a key, no older than this: from memory if the newest barrier began so lately,
/// else by one round trip.
pub(crate) async fn get_within(
    core: Arc<Core>,
    key: Bytes,
    max_stale: Duration,
) -> Result<Option<Bytes>> {
    core.check_open()?;
    if core.is_fresh(max_stale) || !core.config.sees(&key) {
        return get(core, key).await;
    }
    if matches!(core.replica.extent(), Extent::Joining | Extent::Whole) {
        core.sync().await?;
        return get(core, key).await;
    }
    if let Some(offline) = &core.offline
        && let Some(queued) = offline.get(&core.config.packer, &key)?
    {
        // The owner does not have it yet.
        return Ok(queued);
    }
    match core.request(Request::Get { key: key.clone() }).await? {
        Reply::Entry { entry, .. } => opened(&core, &key, entry),
        other => Err(unexpected_reply(&other)),
    }
}

fn opened(core: &Core, key: &[u8], entry: Option<(Bytes, Revision)>) -> Result<Option<Bytes>> {
    entry
        .map(|(value, revision)| core.config.open(key, revision, value))
        .transpose()
}

/// How many keys there are.
pub(crate) async fn count(core: Arc<Core>) -> Result<u64> {
    let offline = core.offline.as_ref();
    loop {
        core.readable().await?;
        if offline.is_some_and(|offline| offline.has_overlay()) {
            return count_in_range(core).await;
        }
        if offline.is_none() || core.holds_acked() {
            break;
        }
    }
    if core.owner().is_none()
        && core.replica.extent() == Extent::Whole
        && let Some(count) = core.replica.count()
    {
        return Ok(count);
    }
    if core.config.options.range.is_some() {
        return count_in_range(core).await;
    }
    match core.request(Request::Count).await? {
        Reply::Count { count, .. } => Ok(count),
        other => Err(unexpected_reply(&other)),
    }
}

async fn count_in_range(core: Arc<Core>) -> Result<u64> {
    let scan = Scan::begin(core, Default::default(), false, false).await?;
    scan.count_entries().await
}
