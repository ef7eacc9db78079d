//! The dictionary as a surface: how its effects stand in the log.

use bytes::Bytes;
use objsync_proto::effect::Change;

use crate::error::StoreError;

/// The change in the body of a dictionary effect. Key and value share the body's memory.
pub fn decode_change(body: &Bytes) -> Result<Change, StoreError> {
    let _ = body;
    todo!()
}
