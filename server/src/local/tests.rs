use std::os::unix::fs::PermissionsExt;

use objsync_proto::ids::{Epoch, EpochName, StoreId};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn info() -> OwnerInfo {
    OwnerInfo {
        version: 1,
        store: StoreId([7; 16]),
        epoch: Epoch {
            number: 3,
            name: EpochName([9; 16]),
        },
        pid: 42,
        address: "127.0.0.1:8080".parse().unwrap(),
    }
}

/// An owner's socket served on a thread of its own, until dropped.
struct Owner {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn serve(directory: &Path) -> Owner {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let listener = listen(directory).unwrap();
    let directory = directory.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let thread = std::thread::spawn(move || {
        runtime.block_on(async {
            let info = info();
            tokio::select! {
                ended = listener.serve(&info, &directory) => panic!("{ended:?}"),
                _ = stopped => {}
            }
        });
    });
    Owner {
        stop: Some(stop),
        thread: Some(thread),
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn owner_says_who_it_is_and_its_end_is_heard_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let owner = serve(directory.path());
    let (said, mut stream) = connect(directory.path(), PATIENCE).unwrap();
    assert_eq!(said, info());
    let (again, _second) = connect(directory.path(), PATIENCE).unwrap();
    assert_eq!(again, info(), "many may ask");
    drop(owner);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "end of file");
    assert!(
        !directory.path().join(SOCKET_FILE).exists(),
        "the name goes with the owner"
    );
}

#[test]
fn socket_is_for_its_user_only() {
    let directory = tempfile::tempdir().unwrap();
    let _listener = listen(directory.path()).unwrap();
    let metadata = std::fs::metadata(directory.path().join(SOCKET_FILE)).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn no_owner_and_dead_owner_are_told_apart_from_a_broken_one() {
    let directory = tempfile::tempdir().unwrap();
    let absent = connect(directory.path(), PATIENCE).unwrap_err();
    assert!(
        matches!(&absent, ServerError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    );
    // A process that was killed leaves the name without a listener.
    drop(UnixListener::bind(directory.path().join(SOCKET_FILE)).unwrap());
    let refused = connect(directory.path(), PATIENCE).unwrap_err();
    assert!(
        matches!(&refused, ServerError::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    );
    let _owner = serve(directory.path());
    assert!(
        connect(directory.path(), PATIENCE).is_ok(),
        "the next owner takes the name over"
    );
}

#[test]
fn path_longer_than_a_socket_address_works() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("d".repeat(120)).join("e".repeat(120));
    std::fs::create_dir_all(&directory).unwrap();
    let _owner = serve(&directory);
    assert_eq!(connect(&directory, PATIENCE).unwrap().0, info());
}

#[test]
fn message_that_lies_about_its_length_is_refused_before_memory_is_taken() {
    use std::io::Write;
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join(SOCKET_FILE)).unwrap();
    let liar = std::thread::spawn(move || {
        for message in [[0xff; 4].as_slice(), b"\0\0\0\x05trash"] {
            listener.accept().unwrap().0.write_all(message).unwrap();
        }
    });
    for _ in 0..2 {
        let error = connect(directory.path(), PATIENCE).unwrap_err();
        assert!(matches!(error, ServerError::NotAnOwner { .. }), "{error}");
    }
    liar.join().unwrap();
}
