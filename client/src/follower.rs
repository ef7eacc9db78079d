//! A copy of a whole store that follows its source, and is served.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use objsync_proto::error::ErrorKind;
use objsync_proto::limits::MEMORY_BYTES_MIN;
use objsync_proto::wire::FollowStatus;
use objsync_server::{FollowOptions, Identity, Upstream};
use objsync_store::{StoreLimits, StoreOptions};

use crate::error::{ObjectError, Result};
use crate::home;
use crate::link::Link;
use crate::options::Options;
use crate::process;
use crate::wait::block_until;

/// A copy of the whole store that a link leads to, kept in a directory and served at an address.
///
/// It holds every dictionary with its history, sessions and links, durable, and goes on from where
/// it is after any break. Clients read and watch there as they do at the source; what they write is
/// passed on to the source. It never becomes a store of its own by itself: see [`promote`].
///
/// Handles find it as they find an owner, by its directory or its address, in this process too.
/// Dropped, it ends in the background; [`Follower::close`] waits.
#[derive(Debug)]
pub struct Follower {
    inner: objsync_server::Follower,
    directory: PathBuf,
}

impl Follower {
    /// Opens the copy in `directory`, or begins one there, and follows `link`, which was made with
    /// [`GrantRequest::follow`](crate::GrantRequest::follow). Of the options count `memory_bytes`
    /// and `force_network_fs`. Blocks on the disk, not on the source.
    ///
    /// # Errors
    /// `Invalid` when `directory` holds a store of its own; `Unavailable` when it is in use.
    pub fn start(
        directory: impl AsRef<Path>,
        listen: SocketAddr,
        link: &Link,
        options: &Options,
    ) -> Result<Self> {
        let directory = directory.as_ref();
        let directory =
            std::path::absolute(directory).map_err(ObjectError::io("look at", directory))?;
        let memory_bytes = match options.memory_bytes {
            Some(bytes) => bytes.max(MEMORY_BYTES_MIN),
            None => crate::memory_bytes()?,
        };
        let store = StoreOptions {
            limits: StoreLimits::within(memory_bytes),
            force_network_fs: options.force_network_fs,
            ..StoreOptions::default()
        };
        let identity = Identity::from_secret(link.secret)?;
        let upstream = Upstream::new(link.hosts.clone(), link.server, identity);
        let options = FollowOptions {
            directory: directory.clone(),
            listen,
            store,
        };
        let runtime = &process::current()?.runtime;
        let inner = objsync_server::Follower::start(options, upstream, runtime)?;
        Ok(Self { inner, directory })
    }

    /// Waits until the copy is served, and tells where: at once for one that is there already, and
    /// once it holds all of its source for a new one. Its port then leads to its directory, as that
    /// of an owner does.
    ///
    /// # Errors
    /// Why it never will be; `Unavailable` when `timeout` is over, and then it still may be.
    pub fn wait_until_served(&self, timeout: Duration) -> Result<SocketAddr> {
        let deadline = Some(Instant::now() + timeout);
        let served = block_until("the copy to be served", deadline, self.inner.serving())?;
        let served = served.ok_or_else(|| self.still_waiting())??;
        if served.port() != 0 {
            home::remember(served.port(), &self.directory)?;
        }
        Ok(served)
    }

    /// Waits until following has ended, by [`Follower::close`] or because it cannot go on.
    ///
    /// # Errors
    /// Why it cannot: such as that the source is another store now, or that the copy is damaged.
    pub fn wait_until_ended(&self) -> Result<()> {
        match block_until("the copy to end", None, self.inner.ended())? {
            Some(Err(failure)) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// How far the copy is behind its source. Costs no round trip.
    #[must_use]
    pub fn status(&self) -> FollowStatus {
        self.inner.status()
    }

    /// Where the copy lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Says goodbye to the clients and closes the copy.
    ///
    /// # Errors
    /// `Interrupted`; then it goes on in the background.
    pub fn close(&self) -> Result<()> {
        block_until("the copy to close", None, self.inner.shutdown()).map(drop)
    }

    fn still_waiting(&self) -> ObjectError {
        let status = self.status();
        let text = format!(
            "the copy in {} holds nothing to serve yet; its source {}: {}",
            self.directory.display(),
            status.source,
            match status.trouble.is_empty() {
                true => "is being copied",
                false => &status.trouble,
            }
        );
        ObjectError::new(ErrorKind::Unavailable, text)
    }
}

/// Makes the copy in `directory`, which nobody may have open, a store of its own. Whoever opens it
/// next begins another history there: clients of the source that come to it keep nothing that only
/// the source has, and the source goes on by itself.
///
/// Copies hold what their source had made durable, and may lack what it acknowledged last: look at
/// [`Follower::status`] before the source is given up.
///
/// # Errors
/// `NotFound`; `Unavailable` while it is followed or open; `Invalid` when it is a store of its own
/// already.
pub fn promote(directory: impl AsRef<Path>, force_network_fs: bool) -> Result<()> {
    Ok(objsync_store::promote(
        directory.as_ref(),
        force_network_fs,
    )?)
}
