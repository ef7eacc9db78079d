//! Python objects and their bytes: keys, values, and fresh copies of decoded values.

mod array;
mod civil;
mod class;
mod decode;
mod encode;
mod fault;
mod fresh;
mod key;
mod moment;
mod names;
mod split;
mod types;
mod view;

pub(crate) use decode::{Decoded, decode};
pub(crate) use encode::encode;
pub(crate) use fresh::Fresh;
pub(crate) use key::{decode_key, encode_key, is_cacheable, prefix_range};
pub(crate) use split::{Split, decode_split};
