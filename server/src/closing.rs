//! Why a connection was closed, as both ends say and read it.
//!
//! The error code of QUIC's close is the number of an [`ErrorKind`], its reason a text for people.
//! 0 is a close without a complaint.

use objsync_proto::error::{ErrorKind, Failure};
use quinn::{Connection, ConnectionError, VarInt};

/// Closes a connection and says why. Nothing more is sent or received on it.
pub fn close(connection: &Connection, failure: &Failure) {
    let code = VarInt::from_u32(failure.kind.number().into());
    connection.close(code, failure.message.as_bytes());
}

/// What the other end said when it closed; none when it was not the other end, or said nothing.
#[must_use]
pub fn failure(error: &ConnectionError) -> Option<Failure> {
    let ConnectionError::ApplicationClosed(close) = error else {
        return None;
    };
    let number = u8::try_from(close.error_code.into_inner()).ok()?;
    let kind = ErrorKind::from_number(number);
    (number != 0).then(|| Failure::new(kind, String::from_utf8_lossy(&close.reason)))
}
