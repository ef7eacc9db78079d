//! As of when a command reads: now, or at a revision of the past.

use clap::Args;
use objsync::{Bytes, Dict, KeyRange, LargeReader, Past, Revision, Scan};

use crate::exit::Failure;

/// The argument of commands that can read the past.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Moment {
    /// As of this revision, as far back as log and snapshots go
    #[arg(long, value_name = "REVISION")]
    at: Option<u64>,
}

/// A dictionary as of some moment.
pub(crate) enum View {
    /// As it is.
    Now(Dict),
    /// As it was.
    Past(Past),
}

impl Moment {
    /// The dictionary as of the moment asked for.
    pub(crate) fn view(self, dict: Dict) -> Result<View, Failure> {
        Ok(match self.at {
            None => View::Now(dict),
            Some(revision) => View::Past(dict.at(Revision(revision)).wait()?),
        })
    }
}

impl View {
    /// The payload under a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Failure> {
        Ok(match self {
            Self::Now(dict) => dict.get(key)?,
            Self::Past(past) => past.get(key).wait()?,
        })
    }

    /// A reader of the content under a key: of bytes, text or an array.
    pub(crate) fn reader(&self, key: &[u8]) -> Result<Option<LargeReader>, Failure> {
        let (dict, payload) = match self {
            Self::Now(dict) => (dict, dict.find(key).wait()?),
            Self::Past(past) => (past.dict(), past.find(key).wait()?),
        };
        let reader = payload.map(|payload| dict.reader_of(key, &payload));
        Ok(reader.transpose()?)
    }

    /// The handle whose past or present it is.
    pub(crate) fn dict(&self) -> &Dict {
        match self {
            Self::Now(dict) => dict,
            Self::Past(past) => past.dict(),
        }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> Result<u64, Failure> {
        Ok(match self {
            Self::Now(dict) => dict.len()?,
            Self::Past(past) => past.count().wait()?,
        })
    }

    /// The entries of a range in key order, or against it.
    pub(crate) fn scan(&self, range: KeyRange, reverse: bool) -> Result<Scan, Failure> {
        Ok(match self {
            Self::Now(dict) => dict.scan(range, reverse)?,
            Self::Past(past) => past.scan(range, reverse).wait()?,
        })
    }

    /// As [`View::scan`], with empty payloads.
    pub(crate) fn keys(&self, range: KeyRange, reverse: bool) -> Result<Scan, Failure> {
        Ok(match self {
            Self::Now(dict) => dict.keys(range, reverse)?,
            Self::Past(past) => past.keys(range, reverse).wait()?,
        })
    }
}
