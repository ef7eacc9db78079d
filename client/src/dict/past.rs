//! The past of a dictionary: all of it as of a revision, and what a key was.

use bytes::Bytes;
use objsync_proto::error::ErrorKind;
use objsync_proto::ids::Revision;
use objsync_proto::limits::HISTORY_EMPTY_PAGES_MAX;
use objsync_proto::wire::{Reply, Request};

use super::Dict;
use crate::core::Core;
use crate::error::{ObjectError, Result};
use crate::past::{Past, Version};
use crate::pending::{Pending, unexpected_reply};

impl Dict {
    /// Everything as of a committed revision, read-only. What is kept: an hour or 1 GiB of log,
    /// whichever ends first, and the newest snapshot before that.
    ///
    /// Opening one reads up to a segment of the owner's log (64 MiB); a read then costs a few
    /// blocks of a file, and on a peer a round trip. Where this process owns the store, what was
    /// opened stays readable while the log is trimmed; a peer is told when it is gone.
    ///
    /// A revision that was never given, between two that were, stands for the one before it.
    ///
    /// # Errors
    /// [`ObjectError::PastRetention`] when it is no longer kept, `Invalid` when it is not there yet;
    /// as [`Dict::get`].
    ///
    /// # Examples
    /// ```
    /// # use objsync::{Dict, Options, key, value};
    /// # let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let name = key::encode(&"answer".into())?;
    /// let ack = dict.set(name.as_bytes(), value::to_payload(&41)?).wait()?;
    /// dict.set(name.as_bytes(), value::to_payload(&42)?).wait()?;
    /// let past = dict.at(ack.revision).wait()?;
    /// let payload = past.get(name.as_bytes()).wait()?.expect("it was there");
    /// assert_eq!(value::from_payload::<i32>(&payload)?, 41);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn at(&self, revision: Revision) -> Pending<Past> {
        let past = Past::new(self.clone(), revision);
        self.call("a revision of the past", |core| async move {
            past.check(&core).await?;
            Ok(past)
        })
    }

    /// What a key was, newest first: the versions before a revision (none: from the newest on), at
    /// most `count_max` of them, as far back as log and snapshots go.
    ///
    /// Cost: the parts of the owner's log that wrote the key are read, 64 MiB for each. Large values are
    /// not read before [`Version::load`].
    ///
    /// # Errors
    /// As [`Dict::get`].
    ///
    /// # Examples
    /// ```
    /// # use objsync::{Dict, Options, key, value};
    /// # let folder = tempfile::tempdir()?;
    /// let dict = Dict::open(folder.path().join("data.obj"), Options::default())?;
    /// let name = key::encode(&"answer".into())?;
    /// dict.set(name.as_bytes(), value::to_payload(&42)?).wait()?;
    /// dict.delete(name.as_bytes()).wait()?;
    /// let versions = dict.history(name.as_bytes(), None, 100).wait()?;
    /// assert_eq!(versions[0].value, None, "it was removed");
    /// assert_eq!(versions[1].decode::<i32>()?, Some(42));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn history(
        &self,
        key: &[u8],
        before: Option<Revision>,
        count_max: usize,
    ) -> Pending<Vec<Version>> {
        let (dict, key) = (self.clone(), Bytes::copy_from_slice(key));
        self.call("the history of a key", move |core| async move {
            versions((&dict, &core), key, before, count_max).await
        })
    }
}

async fn versions(
    (dict, core): (&Dict, &Core),
    key: Bytes,
    mut before: Option<Revision>,
    count_max: usize,
) -> Result<Vec<Version>> {
    let mut versions = Vec::new();
    let mut empty_count = 0;
    core.check_open()?;
    if !core.config.sees(&key) {
        return Ok(versions);
    }
    while versions.len() < count_max {
        let left = count_max - versions.len();
        let request = Request::History {
            key: key.clone(),
            before,
            count_max: u32::try_from(left).unwrap_or(u32::MAX),
        };
        let (page, next) = match core.request(request).await? {
            Reply::History { versions, before } => (versions, before),
            other => return Err(unexpected_reply(&other)),
        };
        empty_count = match page.is_empty() {
            true => empty_count + 1,
            false => 0,
        };
        for version in page.into_iter().take(left) {
            versions.push(Version::open((dict, core), &key, version)?);
        }
        let Some(next) = next else { break };
        refuse_endless(before, next, empty_count)?;
        before = Some(next);
    }
    Ok(versions)
}

/// That a history goes back, and comes to something: a page may be empty only because its owner
/// read as much of its log as it reads for one.
fn refuse_endless(before: Option<Revision>, next: Revision, empty_count: u32) -> Result<()> {
    if let Some(before) = before.filter(|before| *before <= next) {
        let text = format!("the owner's history of a key goes from {before} to {next}");
        return Err(ObjectError::new(ErrorKind::Unsupported, text));
    }
    if empty_count > HISTORY_EMPTY_PAGES_MAX {
        let text = format!(
            "the owner's history of a key has {empty_count} pages without a version, up to \
             revision {next}; the limit is {HISTORY_EMPTY_PAGES_MAX} pages"
        );
        return Err(ObjectError::new(ErrorKind::Unsupported, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_that_does_not_go_back_or_has_no_end_is_refused() {
        let next = |before: Option<u64>, next, empty_count| {
            let told = refuse_endless(before.map(Revision), Revision(next), empty_count);
            told.map_err(|error| error.to_string())
        };
        assert_eq!(next(None, 9, 0), Ok(()));
        assert_eq!(next(Some(9), 8, HISTORY_EMPTY_PAGES_MAX), Ok(()));
        for later in [9, 12] {
            let told = next(Some(9), later, 0).unwrap_err();
            assert!(told.contains(&format!("from 9 to {later}")), "{told}");
        }
        let told = next(Some(9), 8, HISTORY_EMPTY_PAGES_MAX + 1).unwrap_err();
        assert!(told.contains("without a version"), "{told}");
    }
}
