//! Where things lie when the caller names no directory: `$OBJSYNC_HOME`.
//!
//! `run/<port>` is a link to the directory last served at that port, `stores/<port>` the directory
//! of a port that never had one.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use objsync_proto::error::ErrorKind;

use crate::error::{ObjectError, Result};

/// The folder for all that has no path of its own: `$OBJSYNC_HOME`, else
/// `$XDG_STATE_HOME/objsync`, else `~/.local/state/objsync`. It need not exist yet.
///
/// # Errors
/// `Invalid` when none of the three variables (the last is `$HOME`) is set.
pub fn home() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("OBJSYNC_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("XDG_STATE_HOME").map(|dir| PathBuf::from(dir).join("objsync")))
        .or_else(|| variable("HOME").map(|dir| PathBuf::from(dir).join(".local/state/objsync")))
        .ok_or_else(|| {
            ObjectError::new(
                ErrorKind::Invalid,
                "none of OBJSYNC_HOME, XDG_STATE_HOME and HOME is set: there is no place for stores",
            )
        })
}

/// The directory of the store last served at `port` on this machine, or of the one it will get.
///
/// # Errors
/// As [`home`], and when the link of the port cannot be read.
pub fn directory_of_port(port: u16) -> Result<PathBuf> {
    let home = home()?;
    Ok(fs::read_link(home.join("run").join(port.to_string()))
        .unwrap_or_else(|_| home.join("stores").join(port.to_string())))
}

/// Remembers that `directory` is served at `port`. To be called by the owner of the directory,
/// under its lock.
///
/// # Errors
/// When the link cannot be made.
pub(crate) fn remember(port: u16, directory: &Path) -> Result<()> {
    let run = home()?.join("run");
    make_private(&run)?;
    let link = run.join(port.to_string());
    if fs::read_link(&link).is_ok_and(|target| target == directory) {
        return Ok(());
    }
    // Made beside and renamed, so that a reader finds the old target or the new one.
    let draft = run.join(format!("{port}.{}", std::process::id()));
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(ObjectError::io("remove", &draft)(error));
        }
        _ => {}
    }
    symlink(directory, &draft).map_err(ObjectError::io("create", &draft))?;
    fs::rename(&draft, &link).map_err(ObjectError::io("rename", &draft))
}

/// Makes a folder that only this user can look into, and its parents.
pub(crate) fn make_private(folder: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(ObjectError::io("create", folder))
}
