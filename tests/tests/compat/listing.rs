//! What is in a store, as lines of JSON.

use std::collections::BTreeMap;

use objsync_proto::error::ErrorKind;
use objsync_proto::ids::{FrameIndex, NamespaceId, SessionId};
use objsync_proto::key;
use objsync_proto::operation::Outcome;
use objsync_proto::wire::KeyRange;
use objsync_store::{Answer, Store};
use serde_json::{Value as Json, json};

use crate::golden::digits;

/// Every dictionary, entry and grant, in order.
pub(crate) fn of(store: &Store) -> Vec<Json> {
    let names: BTreeMap<_, _> = store.namespaces().into_iter().collect();
    let mut lines = Vec::new();
    for (name, namespace) in names {
        let count = store.count(namespace).unwrap();
        lines.push(json!({"namespace": name, "number": namespace.0, "count": count}));
        lines.extend(entries(store, namespace, &name));
    }
    let mut grants: Vec<_> = store.grants();
    grants.sort_by_key(|grant| grant.peer.0);
    lines.extend(grants.into_iter().map(|grant| {
        json!({
            "grant": digits(&grant.peer.0), "scope": grant.scope, "rights": grant.rights,
            "expires_ms": grant.expires_ms, "label": grant.label,
        })
    }));
    lines
}

fn entries(store: &Store, namespace: NamespaceId, name: &str) -> Vec<Json> {
    let reader = store.reader();
    let mut range = KeyRange::default();
    let mut lines = Vec::new();
    loop {
        let page = reader.page(namespace, &range, false, 64 << 10).unwrap();
        let Some(last) = page.last() else {
            return lines;
        };
        range.start = key::successor(&last.key);
        lines.extend(page.into_iter().map(|entry| {
            json!({
                "in": name, "key": digits(&entry.key), "revision": entry.revision.0,
                "value": digits(&entry.value),
            })
        }));
    }
}

/// What a kept operation was answered.
pub(crate) fn result(session: SessionId, sequence: u64, answer: &Answer) -> Json {
    json!({
        "session": [session.epoch, session.frame.0], "sequence": sequence,
        "revision": answer.ack.revision.0, "outcome": outcome(&answer.outcome),
    })
}

fn outcome(outcome: &Result<Outcome, objsync::Failure>) -> Json {
    match outcome {
        Ok(Outcome::Done) => json!("done"),
        Ok(Outcome::Deleted(count)) => json!({"deleted": count}),
        Ok(Outcome::Swapped(swapped)) => json!({"swapped": swapped}),
        Ok(Outcome::Number(number)) => json!({"number": number}),
        Ok(Outcome::Lease(lease)) => json!({"lease": lease.0}),
        Ok(Outcome::Locked(fence)) => json!({"locked": fence.map(|fence| fence.0)}),
        Ok(Outcome::Conflict { key, revision }) => {
            json!({"conflict": digits(key), "revision": revision.0})
        }
        Ok(Outcome::Outdated { oldest }) => json!({"outdated": oldest.0}),
        Ok(Outcome::Fenced { name }) => json!({"fenced": digits(name)}),
        Ok(Outcome::NeedChunks { ids }) => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            json!({"need_chunks": ids})
        }
        Err(failure) => {
            json!({"refused": ErrorKind::number(failure.kind), "text": failure.message})
        }
    }
}

/// The session in a line of results.
pub(crate) fn session(line: &Json) -> Option<SessionId> {
    let parts = line.get("session")?;
    Some(SessionId {
        epoch: parts[0].as_u64()?,
        frame: FrameIndex(parts[1].as_u64()?),
    })
}
