//! A disk that is full.

use std::io::Write;
use std::path::Path;

use objsync::{Dict, ErrorKind, Options};

use crate::mounts::{in_own_mounts, mount_memory};
use crate::program::{World, text};
use crate::writing::{Writes, join};

/// Takes room, to give it back later.
fn take_room(path: &Path, bytes: usize) {
    std::fs::write(path, vec![1; bytes]).unwrap();
}

/// Takes all the room there is.
fn take_all_room(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for bytes in [1 << 16, 1 << 12] {
        while file.write_all(&vec![1; bytes]).is_ok() {}
    }
}

#[test]
fn full_disk_refuses_writes_with_17_and_nothing_acknowledged_is_lost() {
    in_own_mounts(
        "full::full_disk_refuses_writes_with_17_and_nothing_acknowledged_is_lost",
        || {
            let world = World::new();
            let disk = world.path("disk");
            mount_memory(&disk, 48 << 20);
            take_room(&disk.join("ballast"), 6 << 20);
            take_room(&disk.join("little"), 2 << 20);
            let store = disk.join("store");
            let mut server = world.serve(text(&store));
            let dict = join(&store);
            let mut writes = Writes::of_bytes(60_000);

            // Full: refused by type and by exit code; reads go on.
            let error = writes.until_refused(&dict);
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            let large = format!("\"{}\"", "x".repeat(100_000));
            let set = world.run(&["--to", &server.address, "set", "refused", &large]);
            let said = set.failed(17);
            assert!(
                said.contains("full") && said.contains("make room"),
                "{said}"
            );
            writes.check(&dict);

            // Room: writes go on by themselves.
            std::fs::remove_file(disk.join("ballast")).unwrap();
            writes.some(&dict, 20);
            let error = writes.until_refused(&dict);
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            writes.check(&dict);

            // Killed on a full disk: it is read there, with what room log and index give back or
            // as it lies.
            drop(dict);
            server.signal("KILL");
            assert_eq!(server.end(), None);
            for rest in ["rest", "more"] {
                take_all_room(&disk.join(rest));
                let get = world.run(&["--to", text(&store), "get", "key000000"]);
                assert!(get.ok().starts_with("00000000 "));
                world.run(&["check", text(&store)]).ok();
            }
            let readonly = Options {
                readonly: true,
                ..Options::default()
            };
            let dict = Dict::open(&store, readonly).unwrap();
            writes.check(&dict);
            drop(dict);

            // A little room is enough to write again: the index is a cache and does without.
            std::fs::remove_file(disk.join("little")).unwrap();
            let _server = world.serve(text(&store));
            let dict = join(&store);
            writes.check(&dict);
            writes.some(&dict, 3);
            writes.check(&dict);
        },
    );
}

#[test]
fn store_is_made_written_and_opened_where_its_index_has_no_room() {
    in_own_mounts(
        "full::store_is_made_written_and_opened_where_its_index_has_no_room",
        || {
            let world = World::new();
            let disk = world.path("disk");
            // The index wants 16 MiB free before it writes anything.
            mount_memory(&disk, 15 << 20);
            let store = disk.join("store");
            let mut writes = Writes::of_bytes(1_000);
            for signal in ["KILL", "TERM", "KILL"] {
                let mut server = world.serve(text(&store));
                let dict = join(&store);
                writes.check(&dict);
                writes.some(&dict, 200);
                writes.check(&dict);
                drop(dict);
                server.signal(signal);
                server.end();
            }
            world.run(&["check", text(&store)]).ok();
        },
    );
}
