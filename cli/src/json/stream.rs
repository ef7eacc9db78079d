//! The line of an entry whose value is read in pieces: bytes and text of any length, in bounded memory.
//!
//! It is the line that the whole value would have.

use std::io::{self, Write};

use data_encoding::BASE64;
use objsync::LargeReader;

use super::{damaged, key_to_json};
use crate::exit::Failure;

/// Bytes of content that are read at once: of 3, so that base64 needs no filling between two pieces.
const PIECE_BYTES: usize = 3 * (64 << 10);

/// Writes the line of bytes or text. `failed` says what a failure to write is.
pub(crate) fn write_entry_line(
    key: &[u8],
    reader: &mut LargeReader,
    out: &mut impl Write,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let is_text = reader.type_name() == "str";
    let (before, after) = match is_text {
        true => ("\"", "\"}"),
        false => ("{\"$bytes\":\"", "\"}}"),
    };
    let key = key_to_json(key)?;
    write!(out, "{{\"key\":{key},\"value\":{before}").map_err(&failed)?;
    let mut piece = Vec::with_capacity(PIECE_BYTES + 4);
    let mut left = reader.content_bytes();
    while left > 0 {
        let more = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        left -= more as u64;
        let start = piece.len();
        piece.resize(start + more, 0);
        reader.read_exact_bytes(&mut piece[start..])?;
        let written = match is_text {
            true => text(&mut piece, left == 0)?,
            false => BASE64.encode(&std::mem::take(&mut piece)),
        };
        out.write_all(written.as_bytes()).map_err(&failed)?;
    }
    writeln!(out, "{after}").map_err(failed)
}

/// A piece of text as JSON has it, without its quotes. A character that the piece cuts is left for the
/// next one.
fn text(piece: &mut Vec<u8>, is_last: bool) -> Result<String, Failure> {
    let whole_bytes = match std::str::from_utf8(piece) {
        Ok(text) => text.len(),
        Err(error) if error.error_len().is_none() && !is_last => error.valid_up_to(),
        Err(error) => return Err(damaged(error)),
    };
    let rest = piece.split_off(whole_bytes);
    let whole = String::from_utf8(std::mem::replace(piece, rest)).map_err(damaged)?;
    let quoted = serde_json::Value::String(whole).to_string();
    Ok(quoted[1..quoted.len() - 1].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_cut_anywhere_is_the_json_of_the_whole() {
        let whole = "a\"\\\n\u{e9}\u{20ac}\u{1f600}\u{1}z";
        for cut in 0..=whole.len() {
            let (first, second) = whole.as_bytes().split_at(cut);
            let mut piece = first.to_vec();
            let mut said = text(&mut piece, false).unwrap();
            piece.extend_from_slice(second);
            said.push_str(&text(&mut piece, true).unwrap());
            assert_eq!(format!("\"{said}\""), serde_json::json!(whole).to_string());
            assert!(piece.is_empty());
        }
        assert!(text(&mut vec![b'a', 0xC3], true).is_err(), "cut for good");
        assert!(text(&mut vec![0xFF, b'a'], false).is_err());
    }
}
