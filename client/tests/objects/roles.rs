//! The same test through each kind of handle: one that owns the store, one with a replica of all of
//! it, and one that holds nothing and asks.

use std::path::PathBuf;

use objsync::{Dict, Options};

use crate::peer::{Peer, without_replica};

/// A handle under test, with another one beside it that is a client of its own.
pub(crate) struct Stage {
    pub(crate) dict: Dict,
    pub(crate) other: Dict,
    pub(crate) path: PathBuf,
    /// The owner, where that is another process.
    _owner: Option<Peer>,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn of(role: &'static str, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let owner = (role != "owner").then(|| Peer::open(&path));
        let dict = Dict::open(&path, options).unwrap();
        let other = Dict::open(&path, Options::default()).unwrap();
        Self {
            dict,
            other,
            path,
            _owner: owner,
            _folder: folder,
        }
    }
}

/// Runs a test through each kind of handle.
pub(crate) fn in_each_role(test: impl Fn(&Stage)) {
    in_each_role_with(&Options::default(), test);
}

/// As [`in_each_role`], with options.
pub(crate) fn in_each_role_with(options: &Options, test: impl Fn(&Stage)) {
    let holding_nothing = Options {
        replica: without_replica().replica,
        ..options.clone()
    };
    for (role, options) in [
        ("owner", options.clone()),
        ("replica", options.clone()),
        ("nothing held", holding_nothing),
    ] {
        let stage = Stage::of(role, options);
        println!("as {role}");
        test(&stage);
    }
}
