//! The first words on a connection.

use bytes::BytesMut;
use objsync_proto::error::ErrorKind;
use objsync_proto::limits::FRAME_BYTES_MAX;
use objsync_proto::wire::codec;
use objsync_proto::wire::{Hello, Reply, Request, ToOwner, ToPeer, Welcome};

use super::{READ_BYTES, lost, out_of_turn};
use crate::calls::Calls;
use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::owner::first_content;

/// Both ends of the operations stream, what was read beyond the welcome, and the welcome.
type Greeted = (quinn::SendStream, quinn::RecvStream, BytesMut, Welcome);

/// Says hello, and makes the dictionary if there is none.
pub(super) async fn greet(
    core: &Core,
    calls: &mut Calls,
    quic: &quinn::Connection,
) -> Result<Greeted> {
    let (mut send, mut receive) = quic.open_bi().await.map_err(|error| lost(&error))?;
    // Operations go before chunks that wait for room on the wire.
    let _ = send.set_priority(1);
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let hello = Hello {
        program: format!("objsync {}", env!("CARGO_PKG_VERSION")),
        namespace: core.config.options.namespace.clone(),
        session: calls.session.id(),
    };
    codec::encode(&ToOwner::Hello(hello), &mut output);
    send.write_all(&output)
        .await
        .map_err(|error| lost(&error))?;
    let mut welcome = match next_message(&mut receive, &mut input).await? {
        ToPeer::Welcome(welcome) => welcome,
        ToPeer::Goodbye(failure) => return Err(failure.into()),
        _ => return Err(out_of_turn()),
    };
    core.check_store_seen(welcome.position.store)?;
    if welcome.namespace.is_none() {
        if !welcome.may_write {
            let name = &core.config.options.namespace;
            let text = format!("there is no dictionary {name:?}, and this link may not make one");
            return Err(ObjectError::new(ErrorKind::NotFound, text));
        }
        let number = calls.request_number();
        let request = Request::CreateNamespace {
            content: first_content(&core.config, None)?,
        };
        output.clear();
        codec::encode(&ToOwner::Request(number, request), &mut output);
        send.write_all(&output)
            .await
            .map_err(|error| lost(&error))?;
        match next_message(&mut receive, &mut input).await? {
            ToPeer::Reply(_, Ok(Reply::Namespace { namespace, .. })) => {
                welcome.namespace = Some(namespace);
            }
            ToPeer::Reply(_, Err(failure)) | ToPeer::Goodbye(failure) => return Err(failure.into()),
            _ => return Err(out_of_turn()),
        }
    }
    Ok((send, receive, input, welcome))
}

async fn next_message(receive: &mut quinn::RecvStream, input: &mut BytesMut) -> Result<ToPeer> {
    loop {
        let bytes_max = FRAME_BYTES_MAX;
        if let Some(message) = codec::decode(input, bytes_max).map_err(|error| error.failure())? {
            return Ok(message);
        }
        match receive.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => input.extend_from_slice(&chunk.bytes),
            Ok(None) => return Err(lost(&"the owner ended the stream")),
            Err(error) => return Err(lost(&error)),
        }
    }
}
