//! How keys and values are written on the command line.

use clap::Args;
use objsync::key::{self, Key};
use objsync::{Bytes, KeyRange};

use crate::exit::Failure;
use crate::json;

/// How keys are given.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyForm {
    /// Keys are JSON: 7 is a number, {"$tuple": ["a", 1]} a tuple
    #[arg(long)]
    key_json: bool,
}

impl KeyForm {
    /// The encoded key meant by an argument: text, or JSON if so asked.
    pub(crate) fn read(&self, text: &str) -> Result<Bytes, Failure> {
        if !self.key_json {
            return encode(&Key::Str(text.to_owned()));
        }
        let parsed = json::parse(text.as_bytes()).map_err(|error| {
            Failure::Usage(format!(
                "key {text:?} is no JSON, as --key-json wants: {error}"
            ))
        })?;
        json::key_from_json(&parsed)
    }
}

/// The encoded form of a key.
pub(crate) fn encode(key: &Key) -> Result<Bytes, Failure> {
    match key::encode(key) {
        Ok(encoded) => Ok(encoded.into_bytes()),
        Err(error) => Err(Failure::Usage(error.to_string())),
    }
}

/// All keys of text that start so.
pub(crate) fn prefix(text: &str) -> KeyRange {
    key::str_prefix(text)
}

/// The payload of a value as given on the command line: JSON, else text.
///
/// What starts like an object, an array or a string is meant as JSON: when it is none, that is an
/// error and not a text.
pub(crate) fn value_payload(text: &str) -> Result<Bytes, Failure> {
    match json::parse(text.as_bytes()) {
        Ok(parsed) => json::value_from_json(&parsed),
        Err(error) if text.trim_start().starts_with(['{', '[', '"']) => Err(Failure::Usage(
            format!("value {text:.60} is no JSON: {error}; --text takes it as it is"),
        )),
        Err(_) => text_payload(text),
    }
}

/// The payload of a text.
pub(crate) fn text_payload(text: &str) -> Result<Bytes, Failure> {
    json::value_from_json(&serde_json::Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        json::shown_value(&value_payload(text).unwrap(), true).unwrap()
    }

    #[test]
    fn what_is_json_is_a_value_and_what_is_not_is_text() {
        assert_eq!(shown("42"), "42");
        assert_eq!(shown("-1.5"), "-1.5");
        assert_eq!(shown("true"), "true");
        assert_eq!(shown("hello world"), "\"hello world\"");
        assert_eq!(shown("2026-01-02"), "\"2026-01-02\"");
        assert_eq!(shown(""), "\"\"");
        assert_eq!(shown("[1, 2]"), "[1,2]");
    }

    #[test]
    fn broken_json_is_refused_and_not_taken_for_text() {
        for text in ["{\"a\": }", "[1", "\"open", "  {"] {
            assert!(
                matches!(value_payload(text), Err(Failure::Usage(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn key_is_text_unless_json_is_asked_for() {
        let read = |key_json, text: &str| {
            let key = KeyForm { key_json }.read(text).unwrap();
            key::decode(&key).unwrap()
        };
        assert_eq!(read(false, "7"), Key::Str("7".into()));
        assert_eq!(read(true, "7"), Key::Int(7));
        assert_eq!(read(true, "\"7\""), Key::Str("7".into()));
        let tuple = Key::Tuple(vec![Key::Str("a".into()), Key::Int(1)]);
        assert_eq!(read(true, "{\"$tuple\": [\"a\", 1]}"), tuple);
    }
}
