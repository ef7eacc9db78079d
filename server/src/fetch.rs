//! A bulk stream: the entries of a range as of one revision, once.

use std::sync::Arc;

use objsync_proto::ids::NamespaceId;
use objsync_proto::wire::{Feed, KeyRange};
use quinn::Connection;

use crate::feed_stream::{FeedStream, Unsendable};
use crate::pages::Pages;
use crate::peer::Peer;

/// After answers and events, which are short and waited for.
const PRIORITY: i32 = -1;

/// What was asked for.
pub(crate) struct Wanted {
    pub(crate) id: u64,
    pub(crate) namespace: NamespaceId,
    pub(crate) range: KeyRange,
    pub(crate) reverse: bool,
}

/// Sends the entries, or why they cannot be sent. When aborted, the stream is reset.
pub(crate) async fn send(peer: Arc<Peer>, connection: Connection, wanted: Wanted) {
    let Ok(mut stream) = FeedStream::open(&connection, wanted.id, PRIORITY).await else {
        return;
    };
    match send_pages(&peer, &mut stream, wanted).await {
        Ok(()) => stream.finish(),
        Err(why) => stream.fail(why).await,
    }
}

async fn send_pages(
    peer: &Peer,
    stream: &mut FeedStream,
    wanted: Wanted,
) -> Result<(), Unsendable> {
    let Wanted {
        namespace,
        range,
        reverse,
        ..
    } = wanted;
    // Refused only by a semaphore that is closed, which nobody does.
    let _turn = Arc::clone(&peer.states).acquire_owned().await;
    let mut pages = Pages::new(&peer.serving, namespace, range, reverse);
    while let Some(page) = pages.next().await? {
        stream.put(&Feed::Entries(page));
        stream.flush().await?;
    }
    let position = pages.position();
    stream.put(&Feed::Complete { position });
    stream.flush().await
}
