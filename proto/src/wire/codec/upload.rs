//! The frames of an upload.

use bytes::BytesMut;

use super::super::Upload;
use super::super::fields::{Field, Malformed, Reader};
use super::body::Body;
use super::{Message, upload_type};

impl Message for Upload {}

impl Body for Upload {
    fn frame_type(&self) -> u8 {
        match self {
            Self::Start { .. } => upload_type::START,
            Self::Chunks(_) => upload_type::CHUNKS,
        }
    }

    fn put_body(&self, out: &mut BytesMut) {
        match self {
            Self::Start { upload } => upload.put(out),
            Self::Chunks(records) => records.put(out),
        }
    }

    #[allow(private_interfaces, reason = "not reachable from outside")]
    fn take_body(frame_type: u8, reader: &mut Reader) -> Result<Option<Self>, Malformed> {
        Ok(Some(match frame_type {
            upload_type::START => Self::Start {
                upload: Field::take(reader)?,
            },
            upload_type::CHUNKS => Self::Chunks(Field::take(reader)?),
            _ => return Ok(None),
        }))
    }
}
