//! A limit on the size of files, which the system tells by a signal that ends a program.

use std::os::unix::fs::PermissionsExt;

use objsync::ErrorKind;

use crate::program::{World, text};
use crate::writing::{Writes, join};

#[test]
fn limit_on_file_sizes_refuses_writes_and_ends_nobody() {
    let world = World::new();
    let store = world.path("store");
    // A shell sets the limit for itself and becomes the program: 20,000 blocks of 512 bytes or 1 KiB.
    let limited = world.path("limited");
    let program = env!("CARGO_BIN_EXE_objsync");
    std::fs::write(
        &limited,
        format!("#!/bin/sh\nulimit -f 20000\nexec {program} \"$@\"\n"),
    )
    .unwrap();
    std::fs::set_permissions(&limited, std::fs::Permissions::from_mode(0o755)).unwrap();

    let arguments = ["--json", "serve", "--port", "0", "--data-dir", text(&store)];
    let mut server = world.start_as(&limited, &arguments);
    server.line();
    let dict = join(&store);
    let mut writes = Writes::of_bytes(60_000);
    let error = writes.until_refused(&dict);
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.to_string().contains("ulimit -f"), "{error}");
    assert!(
        writes.acknowledged.len() > 50,
        "{}",
        writes.acknowledged.len()
    );
    writes.check(&dict);
    let error = writes.until_refused(&dict);
    assert_eq!(
        error.kind(),
        ErrorKind::Full,
        "it lives, and says so again: {error}"
    );
    drop(dict);
    server.signal("TERM");
    assert_eq!(server.end(), Some(0));

    let _server = world.serve(text(&store));
    let dict = join(&store);
    writes.check(&dict);
    writes.some(&dict, 10);
    writes.check(&dict);
}
