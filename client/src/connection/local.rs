//! The end of an owner on this machine, as the kernel tells it.

use std::io;

use tokio::net::UnixStream;

/// Waits for the end of the owner's process, if it is on this machine. Cancel safe.
pub(super) async fn end_of_file(local: &mut Option<UnixStream>) {
    let Some(stream) = local else {
        return std::future::pending().await;
    };
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut [0; 64]) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => {}
        }
    }
}
