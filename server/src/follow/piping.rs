//! Uploads of a client of a copy, passed on to its source as they come.
//!
//! The source keys what an uploader is known to have by whom the connection speaks for, so each
//! client's uploads go over the connection that its relay has to the source, and over no other.
//!
//! Memory: what QUIC holds of each stream; nothing is read here but the number of the upload.
//!
//! An upload whose way to the source breaks has failed: its client asks anew what is missing.

use std::sync::Arc;

use bytes::BytesMut;
use objsync_proto::error::Failure;
use objsync_proto::wire::{Upload, codec};
use quinn::{Connection, RecvStream, VarInt};
use tokio::sync::watch;

use super::hail::{away, lost};
use crate::connection::Dropped;
use crate::frames::FrameReader;
use crate::peer::Peer;
use crate::uploads::begun;

/// Most bytes taken from QUIC at once.
const READ_BYTES_MAX: usize = 64 << 10;

/// The connection to the source that speaks for one client, while there is one.
pub(crate) struct Way(watch::Sender<Option<Connection>>);

impl Default for Way {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Way {
    /// It is open over this connection from here on, or closed.
    pub(super) fn set(&self, connection: Option<Connection>) {
        self.0.send_replace(connection);
    }

    /// Waits until it is open.
    async fn open(&self) -> Connection {
        let mut way = self.0.subscribe();
        loop {
            if let Some(connection) = &*way.borrow_and_update() {
                return connection.clone();
            }
            // The sender lives as long as this does.
            let _ = way.changed().await;
        }
    }
}

/// Passes one upload on, to its end. When it is dropped half way, both ends are told that it broke.
pub(crate) async fn pipe(peer: Arc<Peer>, stream: RecvStream) -> Result<(), Dropped> {
    let mut reader: FrameReader<Upload> = FrameReader::new(stream);
    let upload = begun(&mut reader).await?;
    let (read, mut stream) = reader.into_parts();
    let mut output = BytesMut::new();
    codec::encode(&Upload::Start { upload }, &mut output);
    output.extend_from_slice(&read);
    if let Err(failure) = copy(&peer, &mut stream, &output).await {
        peer.uploads.fail(upload, failure);
        // It has ended already, or is told to.
        let _ = stream.stop(VarInt::from_u32(0));
    }
    Ok(())
}

async fn copy(peer: &Peer, stream: &mut RecvStream, begun: &[u8]) -> Result<(), Failure> {
    let way = peer.uploads.way.open().await;
    let failed = |error: &dyn std::error::Error| lost(&way, error);
    let mut out = way.open_uni().await.map_err(|error| failed(&error))?;
    out.write_all(begun).await.map_err(|error| failed(&error))?;
    loop {
        match stream.read_chunk(READ_BYTES_MAX, true).await {
            Ok(Some(chunk)) => {
                let written = out.write_chunk(chunk.bytes).await;
                written.map_err(|error| failed(&error))?;
            }
            Ok(None) => break,
            Err(error) => {
                // The source is not to take it for one that ended.
                let _ = out.reset(VarInt::from_u32(0));
                return Err(away(&format!("the upload broke: {error}")));
            }
        }
    }
    out.finish().map_err(|error| failed(&error))?;
    // Until then a break may take the end of it with it.
    out.stopped().await.map_err(|error| failed(&error))?;
    Ok(())
}
