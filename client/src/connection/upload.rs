//! Chunks on their way to the owner, in a stream of their own.

use bytes::BytesMut;
use objsync_proto::chunk::record::ChunkRecord;
use objsync_proto::limits::CHUNK_FRAME_BYTES;
use objsync_proto::wire::{Upload, codec, record_bytes};
use tokio::sync::oneshot;

use super::lost;
use crate::error::Result;

/// Sends an upload; says its number once all of it was handed to the connection.
///
/// Dropped with the connection: who waits asks anew which chunks are missing.
pub(super) async fn send(
    quic: quinn::Connection,
    upload: u64,
    records: Vec<ChunkRecord>,
    sent: oneshot::Sender<Result<u64>>,
) {
    let written = async {
        let mut stream = quic.open_uni().await.map_err(|error| lost(&error))?;
        let mut output = BytesMut::new();
        codec::encode(&Upload::Start { upload }, &mut output);
        let mut frame = Vec::new();
        let mut frame_bytes = 0;
        for record in records {
            let bytes = record_bytes(&record.payload);
            if frame_bytes + bytes > CHUNK_FRAME_BYTES && !frame.is_empty() {
                let full = Upload::Chunks(std::mem::take(&mut frame));
                codec::encode(&full, &mut output);
                frame_bytes = 0;
                stream
                    .write_all(&output)
                    .await
                    .map_err(|error| lost(&error))?;
                output.clear();
            }
            frame_bytes += bytes;
            frame.push(record);
        }
        codec::encode(&Upload::Chunks(frame), &mut output);
        stream
            .write_all(&output)
            .await
            .map_err(|error| lost(&error))?;
        stream.finish().map_err(|error| lost(&error))?;
        Ok(upload)
    };
    let written = written.await;
    let _ = sent.send(written);
}
