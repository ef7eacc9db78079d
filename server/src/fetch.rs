//! A bulk stream: the entries of a range as of one revision, now or of the past, once.

use std::sync::Arc;

use objsync_proto::ids::{NamespaceId, Revision};
use objsync_proto::wire::{Feed, KeyRange};
use quinn::Connection;

use crate::feed_stream::{FeedStream, Unsendable};
use crate::pages::{Pages, Source};
use crate::past;
use crate::peer::Peer;

/// After answers and events, which are short and waited for.
const PRIORITY: i32 = -1;

/// What was asked for.
pub(crate) struct Wanted {
    pub(crate) id: u64,
    pub(crate) namespace: NamespaceId,
    pub(crate) range: KeyRange,
    pub(crate) reverse: bool,
    /// As of when, and who waits to hear whether that can be read; none for the present.
    pub(crate) at: Option<At>,
}

/// A revision of the past that was asked for.
pub(crate) struct At {
    /// The request, which is answered once the revision is open.
    pub(crate) id: u64,
    pub(crate) revision: Revision,
}

/// Sends the entries, or why they cannot be sent. When aborted, the stream is reset.
pub(crate) async fn send(peer: Arc<Peer>, connection: Connection, wanted: Wanted) {
    // Refused only by a semaphore that is closed, which nobody does.
    let _turn = Arc::clone(&peer.states).acquire_owned().await;
    let source = match &wanted.at {
        None => Source::Now,
        Some(at) => match past::open(&peer, at.id, at.revision).await {
            Some(past) => Source::Past(past),
            None => return,
        },
    };
    let Ok(mut stream) = FeedStream::open(&connection, wanted.id, PRIORITY).await else {
        return;
    };
    match send_pages(&peer, &mut stream, source, wanted).await {
        Ok(()) => stream.finish(),
        Err(why) => stream.end(why).await,
    }
}

async fn send_pages(
    peer: &Peer,
    stream: &mut FeedStream,
    source: Source,
    wanted: Wanted,
) -> Result<(), Unsendable> {
    let Wanted {
        namespace,
        range,
        reverse,
        ..
    } = wanted;
    let mut pages = Pages::new(&peer.serving, source, (namespace, range, reverse));
    while let Some(page) = pages.next().await? {
        stream.put(&Feed::Entries(page));
        stream.flush().await?;
    }
    let position = pages.position();
    stream.put(&Feed::Complete { position });
    stream.flush().await
}
