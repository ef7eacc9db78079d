//! Keys against a model (Python's order and equality), their golden bytes, and hostile bytes.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::{
    Key, KeyBytes, KeyError, between, bytes_prefix, check, decode, encode, str_prefix, successor,
    tuple_prefix,
};
use crate::bigint::BigInt;
use crate::limits::{KEY_BYTES_MAX, VALUE_DEPTH_MAX};
use crate::wire::KeyRange;

fn any_key() -> impl Strategy<Value = Key> {
    let leaf = prop_oneof![
        Just(Key::None),
        any::<i64>().prop_map(Key::from),
        (-300..300_i64).prop_map(Key::from),
        any::<i128>().prop_map(Key::from),
        "-?[1-9][0-9]{38,80}".prop_map(|text| Key::from(text.parse::<BigInt>().unwrap())),
        any::<f64>()
            .prop_filter("a key equals itself", |x| !x.is_nan())
            .prop_map(Key::from),
        (-600..600_i32).prop_map(|halves| Key::from(f64::from(halves) / 2.0)),
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("a key equals itself", |x| !x.is_nan())
            .prop_map(Key::from),
        "[\0a\u{1}\u{20ac}\u{10ffff}]{0,6}".prop_map(Key::from),
        proptest::collection::vec(prop_oneof![Just(0), Just(0xFF), any::<u8>()], 0..6)
            .prop_map(Key::from),
        any::<i64>().prop_map(Key::DateTimeNaive),
        any::<i64>().prop_map(Key::DateTimeAware),
        any::<[u8; 16]>().prop_map(|bytes| Key::Uuid(uuid::Uuid::from_bytes(bytes))),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        proptest::collection::vec(inner, 0..4).prop_map(Key::Tuple)
    })
}

/// The order that encoded keys must have, computed from the keys themselves.
fn model_order(left: &Key, right: &Key) -> Ordering {
    let rank = |key: &Key| match key {
        Key::None => 0,
        Key::Int(_) | Key::BigInt(_) | Key::Float(_) => 1,
        Key::Str(_) => 2,
        Key::Bytes(_) => 3,
        Key::DateTimeNaive(_) => 4,
        Key::DateTimeAware(_) => 5,
        Key::Uuid(_) => 6,
        Key::Tuple(_) => 7,
    };
    match (left, right) {
        (Key::Str(left), Key::Str(right)) => left.cmp(right),
        (Key::Bytes(left), Key::Bytes(right)) => left.cmp(right),
        (Key::DateTimeNaive(left), Key::DateTimeNaive(right))
        | (Key::DateTimeAware(left), Key::DateTimeAware(right)) => left.cmp(right),
        (Key::Uuid(left), Key::Uuid(right)) => left.cmp(right),
        (Key::Tuple(left), Key::Tuple(right)) => left
            .iter()
            .zip(right)
            .map(|(left, right)| model_order(left, right))
            .find(|order| order.is_ne())
            .unwrap_or(left.len().cmp(&right.len())),
        _ if rank(left) == 1 && rank(right) == 1 => compare_numbers(left, right),
        _ => rank(left).cmp(&rank(right)),
    }
}

fn compare_numbers(left: &Key, right: &Key) -> Ordering {
    match (left, right) {
        (Key::Float(left), Key::Float(right)) => left.partial_cmp(right).unwrap(),
        (Key::Float(left), right) => compare_float(*left, &big(right)),
        (left, Key::Float(right)) => compare_float(*right, &big(left)).reverse(),
        (left, right) => compare_big(&big(left), &big(right)),
    }
}

fn big(key: &Key) -> BigInt {
    match key {
        Key::Int(number) => BigInt::from(*number),
        Key::BigInt(number) => number.clone(),
        other => panic!("{other} is no integer"),
    }
}

fn compare_big(left: &BigInt, right: &BigInt) -> Ordering {
    let size = |n: &BigInt| (n.magnitude().len(), n.magnitude().to_vec());
    match (left.is_negative(), right.is_negative()) {
        (false, false) => size(left).cmp(&size(right)),
        (true, true) => size(right).cmp(&size(left)),
        (left, right) => right.cmp(&left),
    }
}

/// A `Key::Float` is infinite or has a fraction, so it is below 2^53 and never equal to an int.
fn compare_float(float: f64, int: &BigInt) -> Ordering {
    if float.is_infinite() {
        return if float > 0.0 {
            Ordering::Greater
        } else {
            Ordering::Less
        };
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a fraction means less than 53 bits"
    )]
    let floor = BigInt::from(float.floor() as i128);
    compare_big(&floor, int).then(Ordering::Greater)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn key_comes_back_and_its_bytes_pass_the_check(key in any_key()) {
        let encoded = encode(&key).unwrap();
        prop_assert_eq!(check(&encoded), Ok(()));
        prop_assert_eq!(encoded.decode(), key);
    }

    #[test]
    fn order_of_bytes_is_order_of_keys(left in any_key(), right in any_key()) {
        let bytes = encode(&left).unwrap().cmp(&encode(&right).unwrap());
        prop_assert_eq!(bytes, model_order(&left, &right), "{} and {}", left, right);
    }

    #[test]
    fn nearby_numbers_are_in_order(base in any::<i64>(), left in -3..3_i8, right in -3..3_i8) {
        let key = |by: i8| Key::Int(i128::from(base) + i128::from(by));
        prop_assert_eq!(encode(&key(left)).unwrap().cmp(&encode(&key(right)).unwrap()), left.cmp(&right));
    }

    /// Whatever passes the check decodes, and has no second encoding.
    #[test]
    fn garbage_is_refused_or_is_the_one_encoding(
        garbage in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(0), Just(0xFF), Just(0x21), Just(0x23), Just(0x70)], 0..12),
    ) {
        prop_assert_eq!(check(&garbage).is_ok(), decode(&garbage).is_ok());
        if let Ok(key) = decode(&garbage) {
            prop_assert_eq!(&encode(&key).unwrap()[..], &garbage[..]);
        }
    }

    #[test]
    fn changed_byte_is_refused_or_is_the_one_encoding(
        key in any_key(), place: proptest::sample::Index, byte: u8,
    ) {
        let mut bytes = encode(&key).unwrap().to_vec();
        *place.get_mut(&mut bytes) = byte;
        prop_assert_eq!(check(&bytes).is_ok(), decode(&bytes).is_ok());
        if let Ok(key) = decode(&bytes) {
            prop_assert_eq!(&encode(&key).unwrap()[..], &bytes[..]);
        }
    }

    #[test]
    fn prefix_range_holds_exactly_the_keys_with_the_prefix(
        prefix in "[\0ab\u{10ffff}]{0,3}", text in "[\0ab\u{10ffff}]{0,5}", other in any_key(),
    ) {
        let range = str_prefix(&prefix);
        prop_assert_eq!(holds(&range, &Key::from(&text)), text.starts_with(&prefix));
        prop_assert!(!holds(&range, &other) || matches!(other, Key::Str(_)));
        let range = bytes_prefix(prefix.as_bytes());
        prop_assert_eq!(holds(&range, &Key::from(text.as_bytes())), text.starts_with(&prefix));
    }

    #[test]
    fn tuple_prefix_holds_exactly_the_tuples_that_start_so(
        start in proptest::collection::vec(any_key(), 0..3), key in any_key(),
        rest in proptest::collection::vec(any_key(), 0..3),
    ) {
        let range = tuple_prefix(&start).unwrap();
        let longer: Vec<Key> = start.iter().cloned().chain(rest).collect();
        prop_assert!(holds(&range, &Key::Tuple(longer)));
        let starts = matches!(&key, Key::Tuple(elements) if elements.starts_with(&start));
        prop_assert_eq!(holds(&range, &key), starts);
    }
}

fn holds(range: &KeyRange, key: &Key) -> bool {
    let encoded = encode(key).unwrap();
    encoded[..] >= range.start[..] && range.end.as_ref().is_none_or(|end| encoded[..] < end[..])
}

/// As Python writes it, the key, its encoding in hex, in key order: the rows of `docs/format.md`
/// "Keys".
fn golden() -> Vec<(&'static str, Key, &'static str)> {
    let uuid = uuid::Uuid::from_u128(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF);
    vec![
        ("None", Key::None, "10"),
        ("-inf", Key::from(f64::NEG_INFINITY), "20"),
        ("-2", Key::from(-2), "217ffeff"),
        ("-1", Key::from(-1), "217fffff"),
        ("-0.5", Key::from(-0.5), "218000ff"),
        ("0", Key::from(0), "22"),
        ("0.1", Key::from(0.1), "237ffc99cd673399cd6740"),
        ("1, 1.0, True", Key::from(true), "23800000"),
        ("1.5", Key::from(1.5), "23800080"),
        ("2", Key::from(2), "23800100"),
        ("255", Key::from(255), "238007fe"),
        ("2**63", Key::from(1_u64 << 63), "23803f00"),
        ("inf", Key::from(f64::INFINITY), "24"),
        ("''", Key::from(""), "300000"),
        ("'a\\x00b'", Key::from("a\0b"), "306100ff620000"),
        ("'a\\xe9'", Key::from("a\u{e9}"), "3061c3a90000"),
        ("b'\\x00\\xff'", Key::from(b"\x00\xff"), "4000ffff0000"),
        (
            "datetime(1970, 1, 1)",
            Key::DateTimeNaive(0),
            "508000000000000000",
        ),
        (
            "datetime(1970, 1, 1, tzinfo=UTC) - resolution",
            Key::DateTimeAware(-1),
            "517fffffffffffffff",
        ),
        (
            "UUID('00112233-4455-6677-8899-aabbccddeeff')",
            Key::Uuid(uuid),
            "6000112233445566778899aabbccddeeff",
        ),
        ("()", Key::Tuple(vec![]), "7000"),
        ("('a', 1)", Key::from(("a", 1)), "70306100002380000000"),
    ]
}

/// They are on people's disks.
#[test]
fn bytes_are_the_golden_ones_and_those_of_the_page() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut previous: Option<KeyBytes> = None;
    for (python, key, hex) in golden() {
        let encoded = encode(&key).unwrap();
        let found: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, hex, "{key}");
        assert!(
            previous.is_none_or(|previous| previous < encoded),
            "{key} is out of order"
        );
        let row = format!("| `{python}` | `{hex}` |");
        assert!(page.contains(&row), "docs/format.md lacks {row}");
        previous = Some(encoded);
    }
}

#[test]
fn one_and_one_point_zero_and_true_are_one_key() {
    let one = encode(&Key::from(1)).unwrap();
    assert_eq!(encode(&Key::from(1.0)).unwrap(), one);
    assert_eq!(encode(&Key::Float(1.0)).unwrap(), one);
    assert_eq!(encode(&Key::from(true)).unwrap(), one);
    assert_eq!(
        encode(&Key::from(-0.0)).unwrap(),
        encode(&Key::from(0)).unwrap()
    );
    assert_eq!(
        encode(&Key::from(1e300)).unwrap().decode(),
        Key::from(1e300)
    );
    assert!(
        matches!(Key::from(1e300), Key::BigInt(_)),
        "it is an integer, as Python sees it"
    );
}

#[test]
fn smallest_and_largest_floats_come_back() {
    for number in [
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::MAX,
        f64::MIN,
        f64::EPSILON,
    ] {
        for number in [number, -number] {
            let mut writer = super::KeyWriter::new();
            writer.float(number).unwrap();
            assert_eq!(
                writer.finish().unwrap().decode(),
                Key::from(number),
                "{number:e}"
            );
        }
    }
    assert_eq!(
        encode(&Key::Float(f64::from_bits(3))).unwrap().decode(),
        Key::Float(f64::from_bits(3))
    );
}

#[test]
fn nan_is_refused() {
    assert_eq!(encode(&Key::from(f64::NAN)), Err(KeyError::NotANumber));
    assert_eq!(
        encode(&Key::from(("a", f64::NAN))),
        Err(KeyError::NotANumber)
    );
}

#[test]
fn key_at_the_limit_is_taken_and_one_byte_more_is_refused() {
    let at_limit = "x".repeat(KEY_BYTES_MAX - 3);
    assert_eq!(encode(&Key::from(&at_limit)).unwrap().len(), KEY_BYTES_MAX);
    let over = encode(&Key::from(format!("{at_limit}x")));
    assert_eq!(
        over,
        Err(KeyError::TooLong {
            bytes: KEY_BYTES_MAX + 1
        })
    );
    assert_eq!(
        over.unwrap_err().to_string(),
        "key is 4097 bytes when encoded; the limit is 4096 bytes"
    );
    let zeros = vec![0; KEY_BYTES_MAX / 2];
    assert!(
        matches!(encode(&Key::from(zeros)), Err(KeyError::TooLong { .. })),
        "zeros are escaped"
    );
    let huge = BigInt::from_parts(false, &vec![0xFF; 1 << 20]);
    assert!(matches!(
        encode(&Key::from(huge)),
        Err(KeyError::TooLong { .. })
    ));
    // The largest power of two: a few bytes when encoded, and inside a tuple too.
    let power = [&[0x80][..], &[0; KEY_BYTES_MAX - 1]].concat();
    let power = Key::from(BigInt::from_parts(false, &power));
    let inside = Key::Tuple(vec![Key::Tuple(vec![power.clone()])]);
    for key in [power, inside] {
        let encoded = encode(&key).unwrap();
        assert!(encoded.len() < 10);
        assert_eq!(decode(&encoded).unwrap(), key);
    }
    let over = [&[1][..], &[0; KEY_BYTES_MAX]].concat();
    assert!(matches!(
        encode(&Key::from(BigInt::from_parts(false, &over))),
        Err(KeyError::TooLong { .. })
    ));
    assert!(matches!(
        check(&[0x10; KEY_BYTES_MAX + 1]),
        Err(KeyError::TooLong { .. })
    ));
}

#[test]
fn deepest_tuple_is_taken_and_a_deeper_one_is_refused() {
    let nested = |depth| (0..depth).fold(Key::None, |inner, _| Key::Tuple(vec![inner]));
    let deepest = encode(&nested(VALUE_DEPTH_MAX)).unwrap();
    assert_eq!(deepest.decode(), nested(VALUE_DEPTH_MAX));
    let too_deep = KeyError::TooDeep {
        depth: VALUE_DEPTH_MAX + 1,
    };
    assert_eq!(encode(&nested(VALUE_DEPTH_MAX + 1)), Err(too_deep.clone()));
    let bytes = vec![super::tag::TUPLE; VALUE_DEPTH_MAX + 1];
    assert_eq!(check(&bytes), Err(too_deep.clone()));
    assert_eq!(decode(&bytes), Err(too_deep));
}

#[test]
fn second_encodings_are_refused() {
    for (bytes, why) in [
        (&[0x23, 0x80, 0x00, 0x01, 0x00][..], "trailing zero group"),
        (
            &[
                0x23, 0x7F, 0xFF, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x80,
            ],
            "too fine for a float",
        ),
        (&[0x30, 0x00, 0x01, 0x00, 0x00], "zero that is not escaped"),
        (&[0x30, 0xFF, 0x00, 0x00], "not UTF-8"),
        (&[0x10, 0x10], "two keys"),
        (&[0x99], "unknown tag"),
        (&[], "nothing"),
        (&[0x70, 0x10], "open tuple"),
    ] {
        assert!(
            matches!(check(bytes), Err(KeyError::Malformed { .. })),
            "{why}"
        );
    }
}

#[test]
fn successor_is_the_next_key_and_between_is_half_open() {
    let a = encode(&Key::from("a")).unwrap();
    assert!(successor(&a) > *a.as_bytes());
    assert!(successor(&a)[..] < encode(&Key::from("a\0")).unwrap()[..]);
    let range = between(Some(&Key::from(1)), Some(&Key::from(3))).unwrap();
    let inside: Vec<bool> = (0..5)
        .map(|number| holds(&range, &Key::from(number)))
        .collect();
    assert_eq!(inside, [false, true, true, false, false]);
    assert_eq!(between(None, None).unwrap(), KeyRange::default());
}

#[test]
fn key_is_shown_as_a_person_writes_it_and_cut_when_long() {
    assert_eq!(
        Key::from(("a\n", 1, b"\xff", ())).to_string(),
        r#"("a\n", 1, b"\xff", None)"#
    );
    assert_eq!(Key::from((1.5,)).to_string(), "(1.5,)");
    assert!(Key::from("x".repeat(5_000)).to_string().len() < 120);
    assert!(super::describe(&[0x99]).contains("not a key"));
}
