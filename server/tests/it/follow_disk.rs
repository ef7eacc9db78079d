//! A follower whose disk refuses what it is asked, and then no longer does.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use objsync_server::{FollowOptions, Follower, Upstream};
use objsync_store::disk::{Disk, DiskFile, OpenMode, RealDisk};
use objsync_store::{StoreLimits, StoreOptions};
use tokio::runtime::Handle;

use crate::followers::{Copy, FOLLOW, Source, connect, options};
use crate::peer::within;

/// A disk on which so many syncs of the log of a copy that is there fail.
struct Failing {
    left: Arc<AtomicUsize>,
}

struct FailingFile {
    inner: Arc<dyn DiskFile>,
    left: Option<Arc<AtomicUsize>>,
}

impl Disk for Failing {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let inner = RealDisk.open(path, mode)?;
        let is_log = path.extension().is_some_and(|name| name == "seg");
        let copy = path.parent().and_then(Path::parent);
        let is_there = copy.is_some_and(|copy| copy.join("MANIFEST").exists());
        let left = (is_log && is_there).then(|| Arc::clone(&self.left));
        Ok(Arc::new(FailingFile { inner, left }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(directory)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        RealDisk.create_dir(directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        RealDisk.sync_dir(directory)
    }
}

impl DiskFile for FailingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_all_at(bytes, offset)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.inner.truncate(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        let one_less = |left: usize| left.checked_sub(1);
        let fails = self.left.as_ref().is_some_and(|left| {
            let order = Ordering::SeqCst;
            left.fetch_update(order, order, one_less).is_ok()
        });
        match fails {
            true => Err(io::Error::other("the disk does not sync")),
            false => self.inner.sync_data(),
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }
}

#[tokio::test]
async fn copy_whose_disk_fails_is_opened_anew_until_it_is_served() {
    let source = Source::start();
    let link = source.link(FOLLOW);
    let mut client = connect(source.address(), source.server.key(), &link).await;
    client.open_session().await;
    client.put("a", "1").await;
    let directory = tempfile::tempdir().unwrap();
    // One when the first frames are appended, and one while it is opened again.
    let left = Arc::new(AtomicUsize::new(2));
    let options = FollowOptions {
        directory: directory.path().to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        store: StoreOptions {
            disk: Arc::new(Failing {
                left: Arc::clone(&left),
            }),
            ..options(StoreLimits::default())
        },
    };
    let hosts = vec![source.address().to_string()];
    let upstream = Upstream::new(hosts, source.server.key(), (*link).clone());
    let follower = Follower::start(options, upstream, &Handle::current()).unwrap();
    let address = within(follower.serving()).await.unwrap();
    assert_eq!(left.load(Ordering::SeqCst), 0, "all of it has happened");
    let copy = Copy {
        follower,
        address,
        directory,
        link,
    };
    let mut own = copy.own_client().await;
    assert_eq!(own.get("a").await.as_deref(), Some("1"));
    // Once it is served, too.
    left.store(2, Ordering::SeqCst);
    client.put("a", "2").await;
    copy.catch_up(&source.store).await;
}
