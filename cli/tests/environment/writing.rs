//! Writing to a server until it refuses, and what must be there afterwards.

use std::path::Path;

use objsync::{Dict, Durability, ErrorKind, ObjectError, Options, ReplicaMode, key, value};

/// A handle on a store that somebody else serves: each of its reads asks the owner.
pub(crate) fn join(directory: &Path) -> Dict {
    let options = Options {
        durability: Some(Durability::Sync),
        promote: false,
        replica: ReplicaMode::None,
        ..Options::default()
    };
    Dict::open(directory, options).unwrap()
}

/// Writes of one size, by number.
pub(crate) struct Writes {
    bytes: usize,
    /// Those that were acknowledged.
    pub(crate) acknowledged: Vec<u32>,
    /// Those of which nobody knows.
    pub(crate) unknown: Vec<u32>,
    next: u32,
}

impl Writes {
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        Self {
            bytes,
            acknowledged: Vec::new(),
            unknown: Vec::new(),
            next: 0,
        }
    }

    /// Writes one, synced.
    pub(crate) fn one(&mut self, dict: &Dict) -> Result<(), ObjectError> {
        let number = self.next;
        self.next += 1;
        let payload = value::to_payload(&self.text(number)).unwrap();
        let written = dict.set(&name(number), payload).wait();
        match &written {
            Ok(_) => self.acknowledged.push(number),
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => self.unknown.push(number),
            Err(_) => {}
        }
        written.map(drop)
    }

    pub(crate) fn some(&mut self, dict: &Dict, count: u32) {
        for _ in 0..count {
            self.one(dict).unwrap();
        }
    }

    /// Writes until one is refused.
    pub(crate) fn until_refused(&mut self, dict: &Dict) -> ObjectError {
        for _ in 0..100_000 {
            if let Err(error) = self.one(dict) {
                return error;
            }
        }
        panic!("nothing is ever refused");
    }

    /// All that was acknowledged is there, whole, and nothing else but what may be.
    pub(crate) fn check(&self, dict: &Dict) {
        let mut found = 0;
        for number in &self.acknowledged {
            let payload = dict.get(&name(*number)).unwrap();
            let payload = payload.unwrap_or_else(|| panic!("{number} was acknowledged"));
            let text: String = value::from_payload(&payload).unwrap();
            assert_eq!(text, self.text(*number));
            found += 1;
        }
        for number in &self.unknown {
            if let Some(payload) = dict.get(&name(*number)).unwrap() {
                let text: String = value::from_payload(&payload).unwrap();
                assert_eq!(text, self.text(*number));
                found += 1;
            }
        }
        assert_eq!(dict.len().unwrap(), found, "what was refused is not there");
    }

    fn text(&self, number: u32) -> String {
        format!("{number:08} ").repeat(self.bytes / 9)
    }
}

fn name(number: u32) -> objsync::Bytes {
    let name = format!("key{number:06}");
    key::encode(&name.as_str().into()).unwrap().into_bytes()
}
