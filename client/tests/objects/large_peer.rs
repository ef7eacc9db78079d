//! Large values of peers: what crosses the network, what a broken connection costs, who sees what.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use objsync::{
    Dict, ErrorKind, GrantRequest, KeyRange, LargeValue, Options, ReplicaMode, Target, limits,
};
use objsync_tests::proxy::{Faults, Proxy};

use crate::gaps::Served;
use crate::large::{SIZES, noise, payload};
use crate::peer::{Peer, k, until};

const CHUNK: usize = limits::CHUNK_BYTES;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// A store that this process owns, and a network to it.
pub(crate) fn owner_behind_a_network(path: &Path) -> (Dict, Proxy) {
    let owner = Dict::open(path, Options::default()).unwrap();
    let address = owner.status().address.unwrap().parse().unwrap();
    (owner, Proxy::start(address, 7).unwrap())
}

/// A client that comes through a network, by a link.
fn client(owner: &Dict, proxy: &Proxy, replica: ReplicaMode) -> Dict {
    client_with(
        owner,
        proxy,
        Options {
            replica,
            timeout: LONG,
            ..Options::default()
        },
    )
}

/// As [`client`], as it is told.
pub(crate) fn client_with(owner: &Dict, proxy: &Proxy, options: Options) -> Dict {
    let request = GrantRequest {
        hosts: vec![proxy.address().to_string()],
        ..GrantRequest::default()
    };
    let link = owner.grant(request).wait().unwrap();
    Dict::connect(&Target::Link(link), options).unwrap()
}

#[test]
fn values_of_every_size_go_there_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy) = owner_behind_a_network(&folder.path().join("data"));
    let writer = client(&owner, &proxy, ReplicaMode::Auto);
    let reader = client(&owner, &proxy, ReplicaMode::None);
    for (place, size) in SIZES.into_iter().enumerate() {
        let (name, value) = (k(&size.to_string()), payload(&noise(size, place as u64)));
        writer.set(&name, value.clone()).wait().unwrap();
        for dict in [&owner, &reader, &writer] {
            assert_eq!(dict.get(&name).unwrap().unwrap(), value, "{size}");
        }
    }
    let whole: usize = reader
        .scan(KeyRange::default(), false)
        .unwrap()
        .map(|entry| entry.unwrap().1.len() - 5)
        .sum();
    assert_eq!(whole, SIZES.iter().sum::<usize>());
}

#[test]
fn what_is_there_already_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy) = owner_behind_a_network(&folder.path().join("data"));
    let dict = client(&owner, &proxy, ReplicaMode::None);
    let content = noise(3 << 20, 1);
    dict.set(&k("a"), payload(&content)).wait().unwrap();
    let before = proxy.carried_bytes();
    assert!(before > 3 << 20, "{before} bytes");
    dict.set(&k("a"), payload(&content)).wait().unwrap();
    let mut changed = content;
    changed[2_000_000] ^= 1;
    dict.set(&k("a"), payload(&changed)).wait().unwrap();
    let sent = proxy.carried_bytes() - before;
    assert!(sent < 5 * CHUNK as u64, "{sent} bytes for one chunk");
    assert_eq!(owner.get(&k("a")).unwrap().unwrap(), payload(&changed));
}

#[test]
fn replica_holds_values_up_to_4_mib_and_fetches_longer_ones_when_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy) = owner_behind_a_network(&folder.path().join("data"));
    let dict = client(&owner, &proxy, ReplicaMode::Full);
    let (long, short) = (payload(&noise(5 << 20, 1)), payload(&noise(1 << 20, 2)));
    owner.set(&k("long"), long.clone()).wait().unwrap();
    owner.set(&k("short"), short.clone()).wait().unwrap();
    let cost = |name: &str, value: &objsync::Bytes| {
        let before = proxy.carried_bytes();
        assert!(dict.get(&k(name)).unwrap().as_ref() == Some(value));
        proxy.carried_bytes() - before
    };
    dict.sync().wait().unwrap();
    // The short one comes by itself, after the long one would have.
    until("the short one is held", || cost("short", &short) < 200_000);
    let reference = dict.find(&k("long")).wait().unwrap().unwrap();
    assert!(LargeValue::is_reference(&reference));
    let fetched = cost("long", &long);
    assert!(fetched > 5 << 20, "{fetched} bytes: it was fetched before");
}

#[test]
fn peer_that_joins_fetches_no_more_ahead_than_it_has_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy) = owner_behind_a_network(&folder.path().join("data"));
    let value = |number| payload(&noise(1 << 20, number));
    for number in 0..16 {
        owner
            .set(&k(&number.to_string()), value(number))
            .wait()
            .unwrap();
    }
    let options = Options {
        replica: ReplicaMode::Full,
        timeout: LONG,
        // A quarter of it for chunks.
        memory_bytes: Some(16 << 20),
        ..Options::default()
    };
    let dict = client_with(&owner, &proxy, options);
    dict.sync().wait().unwrap();
    let carried = quiet(&proxy);
    assert!(carried < 8 << 20, "{carried} bytes for room of 4 MiB");
    // What is new is fetched in the place of what is older.
    owner.set(&k("new"), value(99)).wait().unwrap();
    dict.sync().wait().unwrap();
    let before = quiet(&proxy);
    assert!(dict.get(&k("new")).unwrap().unwrap() == value(99));
    let fetched = proxy.carried_bytes() - before;
    assert!(fetched < 200_000, "{fetched} bytes: it was not held");
}

/// Waits until the network is as good as silent; bytes that it has carried by then.
fn quiet(proxy: &Proxy) -> u64 {
    let mut carried = 0;
    until("nothing comes any more", || {
        std::thread::park_timeout(Duration::from_millis(200));
        let before = std::mem::replace(&mut carried, proxy.carried_bytes());
        carried - before < 10_000
    });
    carried
}

#[test]
fn upload_and_download_over_a_connection_that_is_cut_go_on_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy) = owner_behind_a_network(&folder.path().join("data"));
    let dict = client(&owner, &proxy, ReplicaMode::None);
    let size = 24 << 20;
    let value = payload(&noise(size, 1));
    let cut_after = |bytes: u64| {
        until("so much is carried", || proxy.carried_bytes() > bytes);
        proxy.set(Faults {
            is_cut: true,
            ..Faults::NONE
        });
        until("the connection is given up", || {
            dict.status().role.to_string() == "offline"
        });
        proxy.set(Faults::NONE);
    };
    std::thread::scope(|scope| {
        let setting = scope.spawn(|| dict.set(&k("a"), value.clone()).wait().unwrap());
        cut_after(8 << 20);
        setting.join().unwrap();
    });
    let sent = proxy.carried_bytes();
    assert!(
        sent < size as u64 * 3 / 2,
        "{sent} bytes: all was sent again"
    );
    assert_eq!(owner.get(&k("a")).unwrap().unwrap(), value);
    std::thread::scope(|scope| {
        let getting = scope.spawn(|| dict.get(&k("a")).unwrap().unwrap());
        cut_after(sent + (8 << 20));
        assert!(getting.join().unwrap() == value);
    });
    let fetched = proxy.carried_bytes() - sent;
    assert!(
        fetched < size as u64 * 3 / 2,
        "{fetched} bytes: all was fetched again"
    );
}

#[test]
fn value_is_moved_over_a_slow_way_for_as_long_as_bytes_move() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy) = owner_behind_a_network(&folder.path().join("data"));
    let options = Options {
        replica: ReplicaMode::None,
        timeout: Duration::from_secs(1),
        ..Options::default()
    };
    let dict = client_with(&owner, &proxy, options);
    // A window of 2 MiB takes far longer than the timeout.
    proxy.set(Faults {
        bytes_per_second: Some(1_000_000),
        ..Faults::NONE
    });
    let value = payload(&noise(6 << 20, 1));
    dict.set(&k("a"), value.clone()).wait().unwrap();
    assert!(owner.get(&k("a")).unwrap().unwrap() == value);
    assert!(dict.get(&k("a")).unwrap().unwrap() == value);
    let carried = proxy.carried_bytes();
    assert!(
        carried < 15 << 20,
        "{carried} bytes: something was sent again"
    );
}

#[test]
fn upload_that_nobody_waits_for_any_more_is_broken_off() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy) = owner_behind_a_network(&folder.path().join("data"));
    let dict = client(&owner, &proxy, ReplicaMode::None);
    let slow = Faults {
        bytes_per_second: Some(500_000),
        ..Faults::NONE
    };
    proxy.set(slow);
    let setting = dict.set(&k("a"), payload(&noise(8 << 20, 1)));
    std::thread::scope(|scope| {
        let before = proxy.carried_bytes();
        let (give_up, given_up) = std::sync::mpsc::channel::<()>();
        let waiting = scope.spawn(move || {
            let mut setting = std::pin::pin!(setting);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            // It goes on in tasks of its own once it has begun.
            while given_up.try_recv().is_err() {
                assert!(setting.as_mut().poll(&mut context).is_pending());
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        until("much is on its way", || {
            proxy.carried_bytes() > before + (500 << 10)
        });
        give_up.send(()).unwrap();
        waiting.join().unwrap();
    });
    // Two windows of 2 MiB were on their way.
    proxy.set(Faults::NONE);
    dict.set(&k("b"), crate::peer::v("x")).wait().unwrap();
    let carried = quiet(&proxy);
    assert!(carried < 3 << 20, "{carried} bytes were sent all the same");
}

#[test]
fn upload_whose_owner_is_killed_ends_at_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let dict = Dict::open(
        &path,
        Options {
            promote: false,
            timeout: LONG,
            ..Options::default()
        },
    )
    .unwrap();
    dict.set(&k("a"), payload(b"before")).wait().unwrap();
    let value = payload(&noise(24 << 20, 1));
    let packs = path.join("packs");
    let stored = || {
        let files = std::fs::read_dir(&packs).map(|files| files.flatten().collect::<Vec<_>>());
        let bytes = |file: &std::fs::DirEntry| file.metadata().map_or(0, |about| about.len());
        files.map_or(0, |files| files.iter().map(bytes).sum::<u64>())
    };
    std::thread::scope(|scope| {
        let setting = scope.spawn(|| dict.set(&k("a"), value.clone()).wait().unwrap());
        until("some of it is stored", || stored() > 4 << 20);
        owner.kill();
        let mut next = Peer::open(&path);
        setting.join().unwrap();
        assert_eq!(next.ask("contains a"), "true");
        assert!(dict.get(&k("a")).unwrap().unwrap() == value);
    });
}

#[test]
fn readers_see_the_old_or_the_new_value_whole_while_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (owner, proxy) = owner_behind_a_network(&folder.path().join("data"));
    let dict = client(&owner, &proxy, ReplicaMode::Auto);
    let versions: Vec<_> = (0..6).map(|seed| payload(&noise(900_000, seed))).collect();
    dict.set(&k("a"), versions[0].clone()).wait().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = |dict: Dict| {
            let (versions, is_over) = (&versions, &is_over);
            scope.spawn(move || {
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) || count == 0 {
                    let read = dict.get(&k("a")).unwrap().unwrap();
                    assert!(versions.contains(&read), "a mix of two values");
                    let mut pieces = Vec::new();
                    let mut reader = dict.open_read(&k("a")).wait().unwrap().unwrap();
                    reader.read_to_end(&mut pieces).unwrap();
                    assert!(
                        versions.iter().any(|version| version[5..] == pieces),
                        "a mix in pieces"
                    );
                    count += 1;
                }
            })
        };
        let readers = [
            reading(owner.clone()),
            reading(dict.clone()),
            reading(client(&owner, &proxy, ReplicaMode::None)),
        ];
        for turn in 1..20 {
            let version = &versions[turn % versions.len()];
            match turn % 2 {
                0 => drop(dict.set(&k("a"), version.clone()).wait().unwrap()),
                _ => {
                    let mut writer = dict.open_write(&k("a")).unwrap();
                    writer.write_all(&version[5..]).unwrap();
                    writer.commit().wait().unwrap();
                }
            }
        }
        is_over.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
    });
}

/// A guest is known to have what it uploaded, and a server that is started anew does not know it:
/// then a list of such chunks is refused, though they lie there.
#[test]
fn value_in_pieces_whose_server_was_started_anew_is_unavailable_and_a_whole_one_is_sent_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::open(&folder.path().join("data"), None);
    let dict = served.connect(&served.link(), ReplicaMode::None);
    let content = noise(70 * CHUNK, 3);
    let mut writer = dict.open_write(&k("in pieces")).unwrap();
    writer.write_all(&content).unwrap();
    // Two windows of 32 chunks are on their way, and what is not one is not sent yet.
    until("they have arrived", || served.chunk_count() == 64);
    served.stop_serving();
    served.serve();
    dict.sync().wait().unwrap();
    let error = writer.commit().wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("in pieces"), "{error}");
    dict.set(&k("whole"), payload(&content)).wait().unwrap();
    assert_eq!(dict.get(&k("whole")).unwrap(), Some(payload(&content)));
}
