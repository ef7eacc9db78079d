//! How much memory a store of this process may take: one number, from an option or the environment.

use objsync_proto::error::ErrorKind;
use objsync_proto::limits::{MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MIN};

use crate::error::{ObjectError, Result};

/// The variable that is asked where no option says it.
const VARIABLE: &str = "OBJSYNC_MEMORY";

/// What stores of this process may take where no option says it: `OBJSYNC_MEMORY`, such as
/// `512MiB`, else 256 MiB.
///
/// # Errors
/// `Invalid` when the variable holds no size, or one below 16 MiB.
pub fn memory_bytes() -> Result<u64> {
    match std::env::var(VARIABLE) {
        Err(_) => Ok(MEMORY_BYTES_DEFAULT),
        Ok(text) => parse_memory(&text).map_err(|what| {
            ObjectError::new(ErrorKind::Invalid, format!("{VARIABLE}={text:?}: {what}"))
        }),
    }
}

/// Reads a number of bytes, with `KiB`, `MiB`, `GiB` or their first letters behind it or without.
///
/// # Errors
/// What is expected instead, when it is no size or below 16 MiB.
pub fn parse_memory(text: &str) -> std::result::Result<u64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kib" => Some(10),
        "m" | "mib" => Some(20),
        "g" | "gib" => Some(30),
        _ => None,
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift));
    let bytes = bytes.ok_or("it is a size such as 256MiB, 1GiB or 268435456")?;
    if bytes < MEMORY_BYTES_MIN {
        return Err(format!(
            "{bytes} bytes; the least is {} MiB",
            MEMORY_BYTES_MIN >> 20
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in [
            ("16777216", 16 << 20),
            ("64M", 64 << 20),
            ("64 MiB", 64 << 20),
            ("2gib", 2 << 30),
            ("20000K", 20_000 << 10),
        ] {
            assert_eq!(parse_memory(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_or_too_small_is_refused() {
        for text in ["", "MiB", "-1", "1.5GiB", "64MB", "99999999999GiB"] {
            assert!(parse_memory(text).unwrap_err().contains("256MiB"), "{text}");
        }
        assert!(parse_memory("15MiB").unwrap_err().contains("16 MiB"));
    }
}
