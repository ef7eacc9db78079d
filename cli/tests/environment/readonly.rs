//! File systems that take no writes, from the start or all of a sudden.

use objsync::ErrorKind;

use crate::mounts::{Image, in_own_mounts, mount_memory, remount};
use crate::program::{World, text};
use crate::writing::{Writes, join};

#[test]
fn store_on_a_read_only_mount_is_read_and_whoever_would_write_is_told_what_to_do() {
    in_own_mounts(
        "readonly::store_on_a_read_only_mount_is_read_and_whoever_would_write_is_told_what_to_do",
        || {
            let world = World::new();
            let disk = world.path("disk");
            mount_memory(&disk, 64 << 20);
            let store = disk.join("store");
            let to = ["--to", text(&store)];
            world.run(&[&to[..], &["set", "k", "kept"]].concat()).ok();
            remount(&disk, "ro");
            let read = |rest: &[&str]| world.run(&[&to[..], rest].concat());
            assert_eq!(read(&["get", "k"]).ok(), "kept\n");
            assert!(read(&["ls"]).ok().contains('k'));
            assert!(read(&["export"]).ok().contains("kept"));
            world.run(&["check", text(&store)]).ok();
            for arguments in [
                &["--to", text(&store), "set", "k", "2"][..],
                &["serve", "--port", "0", "--data-dir", text(&store)],
                &["--to", text(&disk.join("new")), "set", "k", "2"],
            ] {
                let said = world.run(arguments).failed(14);
                let is_told = said.contains("read-only file system") && said.contains("readonly");
                assert!(is_told, "{arguments:?}: {said}");
            }
            remount(&disk, "rw");
            world
                .run(&[&to[..], &["set", "k", "changed"]].concat())
                .ok();
            assert_eq!(read(&["get", "k"]).ok(), "changed\n");
        },
    );
}

#[test]
fn disk_that_turns_read_only_under_its_owner_loses_nothing_acknowledged() {
    in_own_mounts(
        "readonly::disk_that_turns_read_only_under_its_owner_loses_nothing_acknowledged",
        || {
            let world = World::new();
            let (file, place) = (world.path("image"), world.path("disk"));
            let image = Image {
                file: &file,
                place: &place,
            };
            image.make(96 << 20);
            image.mount();
            let store = place.join("store");
            let mut server = world.serve(text(&store));
            let dict = join(&store);
            let mut writes = Writes::of_bytes(10_000);
            writes.some(&dict, 100);
            image.fail();
            let first = writes.until_refused(&dict);
            assert_eq!(first.kind(), ErrorKind::OutcomeUnknown, "{first}");
            let second = writes.until_refused(&dict);
            assert_eq!(second.kind(), ErrorKind::Closed, "{second}");
            for error in [first, second] {
                assert!(
                    error.to_string().contains("read-only file system"),
                    "{error}"
                );
            }
            let set = world.run(&["--to", &server.address, "set", "k", "1"]);
            set.failed(18);
            writes.check(&dict);
            drop(dict);
            server.signal("KILL");
            assert_eq!(server.end(), None);
            image.unmount();
            image.mount();
            let mut server = world.serve(text(&store));
            let dict = join(&store);
            writes.check(&dict);
            writes.some(&dict, 10);
            writes.check(&dict);
            drop(dict);
            server.signal("TERM");
            assert_eq!(server.end(), Some(0));
            world.run(&["check", text(&store)]).ok();
            image.unmount();
        },
    );
}
