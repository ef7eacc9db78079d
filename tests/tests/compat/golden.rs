//! Keys and payloads of every kind, by their bytes: no build of ours encodes them here.

use objsync::Bytes;

/// A name and an encoded key in hexadecimal digits, as in docs/format.md, "Keys".
pub(crate) const KEYS: [(&str, &str); 19] = [
    ("None", "10"),
    ("-inf", "20"),
    ("-2", "217ffeff"),
    ("-0.5", "218000ff"),
    ("0", "22"),
    ("0.1", "237ffc99cd673399cd6740"),
    ("1", "23800000"),
    ("255", "238007fe"),
    ("2**63", "23803f00"),
    ("inf", "24"),
    ("empty str", "300000"),
    ("a, zero, b", "306100ff620000"),
    ("a umlaut", "3061c3a90000"),
    ("bytes", "4000ffff0000"),
    ("datetime", "508000000000000000"),
    ("datetime with a zone", "517fffffffffffffff"),
    ("UUID", "6000112233445566778899aabbccddeeff"),
    ("()", "7000"),
    ("('a', 1)", "70306100002380000000"),
];

/// A name and a payload, as in docs/format.md, "Payloads".
pub(crate) const PAYLOADS: [(&str, &str); 27] = [
    ("None", "c0"),
    ("True", "c3"),
    ("42", "2a"),
    ("-1", "ff"),
    ("300", "cd012c"),
    ("-300", "d1fed4"),
    ("2**64 - 1", "cfffffffffffffffff"),
    ("1.5", "cb3ff8000000000000"),
    ("str", "a368c3a9"),
    ("bytes", "c40200ff"),
    ("list", "9201a161"),
    ("dict", "81a16101"),
    ("2**64", "c70a0500010000000000000000"),
    ("-2**64 - 1", "c70a0501010000000000000001"),
    ("tuple", "d6019201a161"),
    ("empty tuple", "d40190"),
    ("set", "c70302920102"),
    ("frozenset", "d5039101"),
    ("complex", "d8043ff0000000000000c000000000000000"),
    ("Decimal", "d606312e3530"),
    ("datetime", "c70907000000000000000080"),
    (
        "datetime with a zone",
        "c71107ffffffffffffffff010000000000000000",
    ),
    (
        "time",
        "c71e0900000000000000010200000000d693a4004575726f70652f4265726c696e",
    ),
    ("date", "d60800004a38"),
    ("timedelta", "c70c0affffffff0000000200000003"),
    ("UUID", "d80b00112233445566778899aabbccddeeff"),
    ("kept for later", "d510c0c1"),
];

/// The bytes of hexadecimal digits.
pub(crate) fn bytes(digits: &str) -> Bytes {
    let pairs = (0..digits.len()).step_by(2);
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    pairs.map(byte).collect()
}

/// The hexadecimal digits of bytes.
pub(crate) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
