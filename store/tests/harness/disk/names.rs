//! Names: which file or directory has which, and what of that survives a power cut.
//!
//! The model is that of a journaling file system, and weaker where those differ. A name made, given
//! by a rename or removed is with the system at once, and survives after a sync of its directory.
//! Until then a cut keeps any of these changes, but: a rename is kept whole or not at all, and of
//! changes that share a name the earlier ones are kept if a later one is. A sync of a directory
//! that fails leaves its changes open, and the next one that succeeds keeps them too.
//!
//! A directory is a name in its parent. Where it is lost, all below it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::super::random::Random;

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    File(usize),
    Directory,
}

type Table = BTreeMap<OsString, Named>;

/// All names. They are whole paths.
#[derive(Default, Clone)]
pub(super) struct Names {
    now: Table,
    kept: Table,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Made(OsString, Named),
    Renamed(OsString, OsString, usize),
    Removed(OsString),
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Named> {
        self.now.get(path.as_os_str()).copied()
    }

    pub(super) fn file(&self, path: &Path) -> Option<usize> {
        match self.get(path)? {
            Named::File(file) => Some(file),
            Named::Directory => None,
        }
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        self.get(path) == Some(Named::Directory)
    }

    /// A directory that was there before everything.
    pub(super) fn add_root(&mut self, path: &Path) {
        let path = path.as_os_str().to_owned();
        self.now.insert(path.clone(), Named::Directory);
        self.kept.insert(path, Named::Directory);
    }

    pub(super) fn make(&mut self, path: &Path, named: Named) {
        self.change(Change::Made(path.as_os_str().to_owned(), named));
    }

    /// Tells whether there was a file to rename.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> bool {
        assert_eq!(
            from.parent(),
            to.parent(),
            "renames stay in their directory"
        );
        let Some(file) = self.file(from) else {
            return false;
        };
        let (from, to) = (from.as_os_str().to_owned(), to.as_os_str().to_owned());
        self.change(Change::Renamed(from, to, file));
        true
    }

    /// Tells whether there was a file to remove.
    pub(super) fn remove(&mut self, path: &Path) -> bool {
        let is_there = self.file(path).is_some();
        if is_there {
            self.change(Change::Removed(path.as_os_str().to_owned()));
        }
        is_there
    }

    pub(super) fn sync(&mut self, directory: &Path) {
        let inside = |change: &Change| Path::new(change.name()).parent() == Some(directory);
        let kept = &mut self.kept;
        self.unsynced.retain(|change| {
            let is_synced = inside(change);
            if is_synced {
                change.apply(kept);
            }
            !is_synced
        });
    }

    pub(super) fn cut(&mut self, random: &mut Random) {
        let all = std::mem::take(&mut self.unsynced);
        let one_in = 1 + random.below(4);
        let keeps_order = random.chance(3);
        let mut is_over = false;
        let mut lost: BTreeSet<&OsStr> = BTreeSet::new();
        for change in &all {
            is_over |= random.chance(one_in + 1);
            let is_lost = match keeps_order {
                true => is_over,
                false => random.chance(one_in),
            };
            let needs_lost = change.names().any(|name| lost.contains(name));
            if is_lost || needs_lost {
                lost.extend(change.names());
            } else {
                change.apply(&mut self.kept);
            }
        }
        self.drop_orphans();
        self.now.clone_from(&self.kept);
    }

    /// Makes all names survive.
    pub(super) fn keep_all(&mut self) {
        self.unsynced.clear();
        self.kept.clone_from(&self.now);
    }

    /// The names in a directory.
    pub(super) fn list(&self, directory: &Path) -> Vec<String> {
        let inside = self.now.keys().map(Path::new);
        let inside = inside.filter(|path| path.parent() == Some(directory));
        let names = inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into()));
        names.collect()
    }

    /// Every file, by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.now.iter().filter_map(|(path, named)| match named {
            Named::File(file) => Some((Path::new(path), *file)),
            Named::Directory => None,
        })
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    fn drop_orphans(&mut self) {
        let mut gone = Vec::new();
        for path in self.kept.keys() {
            let parent = Path::new(path).parent();
            let has_parent = parent.is_some_and(|parent| {
                let is_kept = self.kept.contains_key(parent.as_os_str());
                is_kept && !gone.contains(&parent.as_os_str())
            });
            let is_root = parent.is_none_or(|parent| !self.now.contains_key(parent.as_os_str()));
            if !has_parent && !is_root {
                gone.push(path.as_os_str());
            }
        }
        let gone: Vec<OsString> = gone.into_iter().map(OsStr::to_owned).collect();
        self.kept.retain(|path, _| !gone.contains(path));
    }
}

impl Change {
    fn apply(&self, table: &mut Table) {
        match self {
            Self::Made(path, named) => {
                table.insert(path.clone(), *named);
            }
            Self::Renamed(from, to, file) => {
                table.remove(from);
                table.insert(to.clone(), Named::File(*file));
            }
            Self::Removed(path) => {
                table.remove(path);
            }
        }
    }

    fn name(&self) -> &OsStr {
        match self {
            Self::Made(path, _) | Self::Renamed(path, ..) | Self::Removed(path) => path,
        }
    }

    fn names(&self) -> impl Iterator<Item = &OsStr> {
        let other = match self {
            Self::Renamed(_, to, _) => Some(to.as_os_str()),
            _ => None,
        };
        [self.name()].into_iter().chain(other)
    }
}
