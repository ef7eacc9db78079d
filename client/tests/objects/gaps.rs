//! Away for longer than the log reaches, or met by another history: an object comes back equal, and
//! a watch tells each change, or exactly which ones are gone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use objsync::{
    Dict, ErrorKind, Gap, KeyRange, Link, ObjectError, Options, ReplicaMode, Revision, Target,
    Watch, WatchEvent, value,
};
use objsync_proto::operation::Operation;
use objsync_proto::stored;
use objsync_server::{Identity, ServeOptions, Server};
use objsync_store::{IndexKind, LogRead, Store, StoreLimits, StoreOptions, Submission};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::past::trimmed_store;
use crate::peer::{k, text, until, v, without_replica};

const LONG: Duration = Duration::from_secs(20);

fn all() -> KeyRange {
    KeyRange::default()
}

fn next(watch: &Watch) -> WatchEvent {
    watch.recv_timeout(LONG).unwrap().expect("a change comes")
}

fn gap(watch: &Watch) -> Gap {
    match watch.recv_timeout(LONG) {
        Err(ObjectError::Gap(gap)) => gap,
        other => panic!("a gap was expected: {other:?}"),
    }
}

fn name(event: &WatchEvent) -> String {
    let key = event.decode_key().unwrap().to_string();
    key.trim_matches('"').to_owned()
}

/// A store with a short log, served by this process now and then, always at one address.
pub(crate) struct Served {
    runtime: Handle,
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    store: Store,
    server: Option<Server>,
    address: SocketAddr,
}

impl Served {
    pub(crate) fn open(path: &Path, address: Option<SocketAddr>) -> Self {
        let options = StoreOptions {
            index: IndexKind::Memory,
            limits: StoreLimits {
                segment_bytes: 16 << 10,
                snapshot_log_bytes: 32 << 10,
                retention_bytes: 48 << 10,
                ring_bytes_max: 8 << 10,
                ..StoreLimits::default()
            },
            ..StoreOptions::default()
        };
        let store = Store::open(path, options).unwrap();
        store.create_namespace("default", Vec::new()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || drop(runtime.block_on(ended)));
        let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut served = Self {
            runtime: handle,
            thread: Some((end, thread)),
            store,
            server: None,
            address,
        };
        served.serve();
        served
    }

    pub(crate) fn serve(&mut self) {
        let options = ServeOptions {
            listen: self.address,
            ..ServeOptions::default()
        };
        let server = Server::start(self.store.clone(), options, &self.runtime).unwrap();
        self.address = server.address();
        self.server = Some(server);
    }

    pub(crate) fn stop_serving(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown(LONG));
            drop(server);
            // The task that had the socket ends a moment later.
            let bound = || std::net::UdpSocket::bind(self.address);
            until("the port is free", || bound().is_ok());
        }
    }

    pub(crate) fn chunk_count(&self) -> u64 {
        self.store.chunks().status().chunk_count
    }

    fn close(mut self) {
        self.stop_serving();
        self.store.close().unwrap();
        if let Some((end, thread)) = self.thread.take() {
            drop(end);
            thread.join().unwrap();
        }
    }

    fn run(&self, operation: Operation) -> Revision {
        let submission = Submission {
            namespace: self.store.namespace("default").unwrap().unwrap(),
            operation,
            origin: None,
            durability: None,
        };
        self.store.execute(submission).unwrap().ack.revision
    }

    fn put(&self, name: &str, text: &str) -> Revision {
        let sealed = stored::seal(&v(text), Default::default());
        self.run(Operation::Put {
            key: k(name).into(),
            value: sealed.unwrap(),
        })
    }

    fn delete(&self, name: &str) -> Revision {
        self.run(Operation::Delete {
            key: k(name).into(),
        })
    }

    /// Writes one key until the log no longer reaches back to a revision.
    fn trim(&self, from: Revision) {
        until("the log is trimmed", || {
            self.put("busy", &"x".repeat(4 << 10));
            matches!(self.store.read_log(from, 1).unwrap(), LogRead::Trimmed)
        });
    }

    pub(crate) fn link(&self) -> Link {
        let guest = Identity::generate().unwrap();
        let server = self.server.as_ref().unwrap();
        server
            .grant(objsync::Grant {
                peer: guest.peer(),
                scope: "*".into(),
                rights: vec!["read".into(), "write".into()],
                expires_ms: None,
                label: String::new(),
            })
            .unwrap();
        Link {
            hosts: vec![self.address.to_string()],
            namespace: "default".into(),
            server: server.key(),
            secret: *guest.secret(),
        }
    }

    pub(crate) fn connect(&self, link: &Link, replica: ReplicaMode) -> Dict {
        let options = Options {
            replica,
            ..Options::default()
        };
        Dict::connect(&Target::Link(link.clone()), options).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn content(dict: &Dict) -> BTreeMap<String, String> {
    let entries = dict.scan(all(), false).unwrap();
    entries
        .map(|entry| {
            let (key, payload) = entry.unwrap();
            let name = objsync::key::KeyBytes::new(key).unwrap().decode();
            let name = name.to_string().trim_matches('"').to_owned();
            (name, value::from_payload(&payload).unwrap())
        })
        .collect()
}

#[test]
fn watch_since_before_the_log_hears_what_is_gone_and_goes_on_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let first = trimmed_store(&path);
    let owner = Dict::open(&path, Options::default()).unwrap();
    let link = owner
        .grant(objsync::GrantRequest::default())
        .wait()
        .unwrap();
    let peer = Dict::connect(&Target::Link(link.clone()), Options::default()).unwrap();
    let bare = Dict::connect(&Target::Link(link), without_replica()).unwrap();
    let mut behind = Vec::new();
    for dict in [&owner, &peer, &bare] {
        let watch = dict.watch(all(), Some(first)).unwrap();
        let gap = gap(&watch);
        assert_eq!((gap.after, gap.same_history), (first, true));
        assert_eq!(
            next(&watch).revision.0,
            gap.oldest.0 + 1,
            "nothing else is missing"
        );
        let again = dict.watch(all(), Some(gap.oldest)).unwrap();
        assert_eq!(
            next(&again).revision.0,
            gap.oldest.0 + 1,
            "and a new watch can go on there"
        );
        let error = ObjectError::Gap(gap);
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(
            error.to_string().contains(&gap.oldest.to_string()),
            "{error}"
        );
        behind.push(gap.oldest);
    }
    assert!(behind.iter().all(|oldest| *oldest == behind[0]));
    for dict in [&owner, &peer, &bare] {
        let ahead = Revision(u64::MAX / 2);
        let watch = dict.watch(all(), Some(ahead)).unwrap();
        assert!(!gap(&watch).same_history, "a revision that was never given");
    }
}

#[test]
fn object_that_was_away_past_the_retention_comes_back_equal_and_tells_each_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut served = Served::open(&path, None);
    for number in 0..100 {
        served.put(&format!("k{number:02}"), "old");
    }
    let link = served.link();
    let whole = served.connect(&link, ReplicaMode::Full);
    let bare = served.connect(&link, ReplicaMode::None);
    whole.sync().wait().unwrap();
    bare.sync().wait().unwrap();
    let told = whole.watch(all(), None).unwrap();
    let every = bare.watch(all(), None).unwrap();
    let seen = served.put("k00", "seen");
    assert_eq!(next(&told).revision, seen);
    assert_eq!(next(&every).revision, seen);
    served.stop_serving();
    served.put("k10", "new");
    served.delete("k20");
    served.put("added", "new");
    served.trim(seen);
    // Another epoch is no other history.
    let address = served.address;
    served.close();
    let served = Served::open(&path, Some(address));
    until("it is back", || {
        text(&whole, "added").as_deref() == Some("new")
    });
    assert_eq!(content(&whole), content(&bare));
    assert_eq!(text(&whole, "k20"), None);
    let bridged = gap(&told);
    assert_eq!((bridged.after, bridged.same_history), (seen, true));
    let changes: Vec<_> = (0..4).map(|_| next(&told)).collect();
    assert_eq!(
        changes.iter().map(name).collect::<Vec<_>>(),
        ["k10", "added", "busy", "k20"],
        "in the order in which they happened, and at last what is gone"
    );
    let is_of_state = |event: &WatchEvent| event.revision == bridged.oldest;
    assert!(changes.iter().all(is_of_state), "one step: {changes:?}");
    assert_eq!(
        changes[0].decode_old::<String>().unwrap().as_deref(),
        Some("old")
    );
    assert!(told.try_recv().unwrap().is_none(), "each once");
    let gap = gap(&every);
    assert_eq!((gap.after, gap.same_history), (seen, true));
    assert_eq!(next(&every).revision.0, gap.oldest.0 + 1);
    let behind = served.put("k30", "behind");
    assert_eq!(next(&told).revision, behind, "and on as before");
    drop((told, every, whole, bare));
    served.close();
}

#[test]
fn object_that_meets_a_restored_copy_rolls_back_to_it_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let (path, image) = (folder.path().join("data"), folder.path().join("image"));
    let served = Served::open(&path, None);
    served.put("kept", "both");
    let common = served.put("changed", "both");
    let (link, address) = (served.link(), served.address);
    served.close();
    copy(&path, &image);
    let served = Served::open(&path, Some(address));
    let whole = served.connect(&link, ReplicaMode::Full);
    let bare = served.connect(&link, ReplicaMode::None);
    let every = bare.watch(all(), None).unwrap();
    let told = whole.watch(all(), None).unwrap();
    served.put("changed", "original");
    served.put("added", "original");
    // A read waits for what was acknowledged, but not for what is of another history.
    for number in 0..9 {
        whole
            .set(&k("mine"), v(&number.to_string()))
            .wait()
            .unwrap();
    }
    let last = whole.last_ack().unwrap().revision;
    for watch in [&every, &told] {
        (0..10).for_each(|_| drop(next(watch)));
        assert_eq!(next(watch).revision, last);
    }
    served.close();
    let served = Served::open(&image, Some(address));
    let other = served.put("other", "restored");
    until("it follows the copy", || text(&whole, "other").is_some());
    let wanted = [("changed", "both"), ("kept", "both"), ("other", "restored")];
    let wanted = wanted.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(content(&whole), BTreeMap::from(wanted));
    let bridged = gap(&told);
    assert_eq!((bridged.after, bridged.same_history), (last, false));
    assert!(bridged.oldest >= common && bridged.oldest <= other);
    let changes: Vec<_> = (0..4).map(|_| next(&told)).collect();
    assert!(changes.is_sorted_by_key(|event| event.revision));
    // What came to the copy before or after this peer did is told among them or behind them.
    let (others, changes): (Vec<_>, Vec<_>) = changes
        .into_iter()
        .partition(|event| event.revision == other && name(event) == "other");
    assert_eq!(others.len(), 1);
    assert!(changes.iter().all(|event| event.revision == bridged.oldest));
    let changes: Vec<_> = changes.iter().map(name).collect();
    assert_eq!(changes, ["changed", "added", "mine"]);
    let gap = gap(&every);
    assert_eq!((gap.after, gap.same_history), (last, false));
    assert!(gap.oldest <= common, "what both have is not known: {gap:?}");
    let anew: Vec<_> = (0..3).map(|_| next(&every)).collect();
    assert_eq!(
        anew.iter().map(name).collect::<Vec<_>>(),
        ["kept", "changed", "other"]
    );
    assert_eq!(anew[2].revision, other, "all that the copy's history has");
    drop((told, every, whole, bare));
    served.close();
}

#[test]
fn transaction_that_read_before_a_restored_copy_took_over_is_run_again() {
    for replica in [ReplicaMode::Full, ReplicaMode::None] {
        let folder = tempfile::tempdir().unwrap();
        let (path, image) = (folder.path().join("data"), folder.path().join("image"));
        let served = Served::open(&path, None);
        served.put("kept", "both");
        let (link, address) = (served.link(), served.address);
        served.close();
        copy(&path, &image);
        let original = Served::open(&path, Some(address));
        let at = original.put("a", "original");
        let dict = original.connect(&link, replica);
        let (mut original, mut restored) = (Some(original), None);
        let read = dict.transact(|t| {
            let read = t.get(&k("a")).wait()?;
            if let Some(original) = original.take() {
                original.close();
                let copy = Served::open(&image, Some(address));
                assert_eq!(
                    copy.put("a", "restored"),
                    at,
                    "another change of one number"
                );
                restored = Some(copy);
                until(
                    "it follows the copy",
                    || matches!(dict.get(&k("a")), Ok(Some(now)) if Some(&now) != read.as_ref()),
                );
            }
            t.set(&k("b"), read.clone().unwrap())?;
            Ok::<_, ObjectError>(read)
        });
        assert_eq!(read.unwrap(), Some(v("restored")));
        dict.sync().wait().unwrap();
        assert_eq!(text(&dict, "b").as_deref(), Some("restored"));
        drop(dict);
        restored.unwrap().close();
    }
}

#[test]
fn watch_that_reads_what_it_missed_from_a_restored_copy_hears_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (path, image) = (folder.path().join("data"), folder.path().join("image"));
    let served = Served::open(&path, None);
    // Much to compare: the watch has read the history of the copy long before the replica has it.
    let much = "x".repeat(64 << 10);
    for number in 0..200 {
        served.put(&format!("k{number:03}"), &much);
    }
    let common = served.put("kept", "both");
    let (link, address) = (served.link(), served.address);
    served.close();
    copy(&path, &image);
    let served = Served::open(&path, Some(address));
    let whole = served.connect(&link, ReplicaMode::Full);
    let watch = whole.watch(all(), Some(common)).unwrap();
    for _ in 0..10 {
        served.put("original", "original");
    }
    let last = served.put("last", "original");
    until("it has all", || text(&whole, "last").is_some());
    served.close();
    let served = Served::open(&image, None);
    let restored: Vec<_> = (0..30)
        .map(|number| served.put("restored", &number.to_string()))
        .collect();
    served.close();
    let served = Served::open(&image, Some(address));
    assert!(!gap(&watch).same_history);
    let mut told = Vec::new();
    while told.last() != restored.last() {
        told.push(next(&watch).revision);
    }
    assert!(told.last() > Some(&last), "it passes where the replica is");
    until("it follows the copy", || text(&whole, "restored").is_some());
    let end = served.put("end", "restored");
    told.push(next(&watch).revision);
    let behind = told.iter().position(|revision| *revision == restored[0]);
    let wanted: Vec<_> = restored.into_iter().chain([end]).collect();
    assert_eq!(
        told[behind.unwrap()..],
        wanted,
        "each once, and no gap again"
    );
    drop((watch, whole));
    served.close();
}
