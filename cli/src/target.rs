//! Which dictionary a command means: a server, a link, or a directory.

use std::path::PathBuf;

use objsync::{Dict, ErrorKind, Options, ReplicaMode, Target};

use crate::args::Connection;
use crate::exit::Failure;

/// Where to look when nobody says.
pub(crate) const DEFAULT: &str = "127.0.0.1:8080";

/// What `--to` can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A server or a link.
    Served(Target),
    /// The directory of a store on this machine.
    Directory(PathBuf),
}

/// Whether a directory without a store is made into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// A command that writes makes it.
    Create,
    /// A command that reads finds nothing there.
    Refuse,
}

impl Place {
    /// Reads `--to`: a link by its scheme, a path by a `/` or because it is there, else an address.
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        if text.starts_with(objsync::Link::SCHEME) {
            return Ok(Self::Served(Target::parse(text)?));
        }
        let path = PathBuf::from(text);
        if text.contains('/') || text == "." || text == ".." || path.exists() {
            return Ok(Self::Directory(path));
        }
        Target::parse(text).map(Self::Served).map_err(|error| {
            Failure::with_hint(error, format!("for a directory here write --to ./{text}"))
        })
    }

    fn describe(&self) -> String {
        match self {
            Self::Served(Target::Address { host, port }) => format!("{host}:{port}"),
            Self::Served(Target::Link(link)) => link.hosts.join(","),
            Self::Directory(path) => path.display().to_string(),
        }
    }
}

impl Connection {
    /// What `--to` names.
    pub(crate) fn place(&self) -> Result<Place, Failure> {
        Place::read(self.to.as_deref().unwrap_or(DEFAULT))
    }

    /// How this program opens a dictionary: for one thing, so without a copy of it all, and never
    /// as the server of an address.
    fn options(&self, place: &Place) -> Options {
        let of_link = match place {
            Place::Served(Target::Link(link)) if !link.namespace.is_empty() => {
                Some(link.namespace.clone())
            }
            _ => None,
        };
        let defaults = Options::default();
        Options {
            namespace: self
                .namespace
                .clone()
                .or(of_link)
                .unwrap_or(defaults.namespace),
            // A directory that nobody has open is opened for as long as the command runs.
            promote: matches!(place, Place::Directory(_)),
            replica: ReplicaMode::None,
            timeout: self.timeout,
            ..Options::default()
        }
    }

    /// Opens the dictionary meant, for commands that read: where nothing can be written too.
    pub(crate) fn open_to_read(&self) -> Result<Dict, Failure> {
        self.open_with(IfMissing::Refuse, |options| options.readonly = true)
    }

    /// Opens the dictionary meant, which must be there.
    pub(crate) fn open(&self) -> Result<Dict, Failure> {
        self.open_with(IfMissing::Refuse, |_| {})
    }

    /// Opens the dictionary meant, with what a command wants otherwise.
    pub(crate) fn open_with(
        &self,
        missing: IfMissing,
        change: impl FnOnce(&mut Options),
    ) -> Result<Dict, Failure> {
        let place = self.place()?;
        let mut options = self.options(&place);
        change(&mut options);
        let opened = match &place {
            Place::Served(target) => Dict::connect(target, options),
            Place::Directory(path) => {
                if missing == IfMissing::Refuse && !path.exists() {
                    return Err(Failure::missing(path));
                }
                Dict::open(path, options)
            }
        };
        opened.map_err(|error| match (error.kind(), hint(&place)) {
            (ErrorKind::Unavailable, Some(hint)) => Failure::with_hint(error, hint),
            _ => error.into(),
        })
    }

    /// The place meant, for messages.
    pub(crate) fn shown(&self) -> Result<String, Failure> {
        Ok(self.place()?.describe())
    }
}

/// What to do when nobody answers there.
fn hint(place: &Place) -> Option<String> {
    match place {
        Place::Served(Target::Address { host, port }) => {
            let local = ["localhost", "127.0.0.1", "::1"].contains(&host.as_str());
            Some(if local {
                format!("start one: objsync serve --port {port}; or name another with --to")
            } else {
                format!("is objsync serve --host running on {host}, and is UDP port {port} open?")
            })
        }
        Place::Served(Target::Link(_)) => None,
        Place::Directory(_) => Some(String::from(
            "the process named has it open: is it stopped?",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<(String, u16)> {
        match Place::read(text) {
            Ok(Place::Served(Target::Address { host, port })) => Some((host, port)),
            _ => None,
        }
    }

    #[test]
    fn address_path_and_link_are_told_apart() {
        assert_eq!(address("localhost:8080"), Some(("localhost".into(), 8080)));
        assert_eq!(address("[::1]:1"), Some(("::1".into(), 1)));
        for path in ["./x", "/tmp/no such", "a/b:80", "."] {
            assert!(
                matches!(Place::read(path), Ok(Place::Directory(_))),
                "{path}"
            );
        }
        let key = "ab".repeat(32);
        let link = format!("objsync://h:1/n?server={key}&key={key}");
        assert!(matches!(
            Place::read(&link),
            Ok(Place::Served(Target::Link(_)))
        ));
    }

    #[test]
    fn name_that_is_neither_is_refused_with_the_way_to_write_a_directory() {
        let Err(Failure::Object { error, hint }) = Place::read("nowhere") else {
            panic!("nowhere is no address");
        };
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(hint.is_some_and(|hint| hint.contains("./nowhere")));
    }

    #[test]
    fn where_to_look_when_nobody_says_is_an_address() {
        assert!(address(DEFAULT).is_some());
    }
}
