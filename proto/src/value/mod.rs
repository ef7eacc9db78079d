//! Values: MessagePack payloads, with extension types for what Python has and MessagePack lacks.

pub mod ext;
mod inspect;

pub use inspect::{int_payload, type_name};
