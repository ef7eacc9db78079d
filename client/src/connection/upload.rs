//! Chunks on their way to the owner, in a stream of their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use objsync_proto::chunk::record::ChunkRecord;
use objsync_proto::limits::CHUNK_FRAME_BYTES;
use objsync_proto::wire::{self, codec, record_bytes};
use tokio::sync::oneshot;

use super::lost;
use crate::core::{Core, Upload};
use crate::error::Result;

/// How often it is looked whether bytes leave.
const LOOK: Duration = Duration::from_millis(50);

/// Sends an upload; says its number once all of it was handed to the connection, and stays until the
/// owner's machine has it or nobody waits for it any more. Then it is broken off, so that what is not
/// wanted takes no room on the way.
///
/// Dropped with the connection: who waits asks anew which chunks are missing.
pub(super) async fn send(core: Arc<Core>, quic: quinn::Connection, upload: Upload) {
    let Upload {
        records,
        sent,
        mut given_up,
    } = upload;
    let opened = tokio::select! { biased;
        _ = &mut given_up => return,
        opened = quic.open_uni() => opened,
    };
    let mut stream = match opened {
        Ok(stream) => stream,
        Err(error) => return drop(sent.send(Err(lost(&error)))),
    };
    let number = core.large.upload_number();
    let is_wanted = tokio::select! { biased;
        _ = &mut given_up => false,
        () = deliver(&mut stream, number, records, sent) => true,
        never = look(&core, &quic) => match never {},
    };
    if !is_wanted {
        // Refused where all of it has arrived.
        let _ = stream.reset(0_u32.into());
    }
}

async fn deliver(
    stream: &mut quinn::SendStream,
    upload: u64,
    records: Vec<ChunkRecord>,
    sent: oneshot::Sender<Result<u64>>,
) {
    let written = write(stream, upload, records).await;
    let is_written = written.is_ok();
    let _ = sent.send(written.map(|()| upload));
    if is_written {
        let _ = stream.stopped().await;
    }
}

async fn write(
    stream: &mut quinn::SendStream,
    upload: u64,
    records: Vec<ChunkRecord>,
) -> Result<()> {
    let mut output = BytesMut::new();
    codec::encode(&wire::Upload::Start { upload }, &mut output);
    let mut frame = Vec::new();
    let mut frame_bytes = 0;
    for record in records {
        let bytes = record_bytes(&record.payload);
        if frame_bytes + bytes > CHUNK_FRAME_BYTES && !frame.is_empty() {
            let full = wire::Upload::Chunks(std::mem::take(&mut frame));
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
    codec::encode(&wire::Upload::Chunks(frame), &mut output);
    stream
        .write_all(&output)
        .await
        .map_err(|error| lost(&error))?;
    stream.finish().map_err(|error| lost(&error))
}

/// Takes notice of the bytes that leave. What was written may stay here for long, and only what the
/// owner's machine acknowledges lets more leave.
async fn look(core: &Core, quic: &quinn::Connection) -> Infallible {
    let mut before = quic.stats().udp_tx.bytes;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = quic.stats().udp_tx.bytes;
        core.large.sent.add(now.saturating_sub(before));
        before = now;
    }
}
