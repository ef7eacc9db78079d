//! Values: golden bytes, round trips both ways, limits, hostile bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Date, DateTime, Decimal, Time, TimeDelta, Value, ValueError, Zone, check, decode, encode, ext,
    from_payload, to_payload, type_name,
};
use crate::bigint::BigInt;
use crate::limits::{CLASS_NAME_BYTES_MAX, VALUE_DEPTH_MAX};
use crate::stored::PAYLOAD_BYTES_MAX;

fn zone() -> impl Strategy<Value = Option<Zone>> {
    let offset = -86_399_999_999..86_400_000_000_i64;
    let zone = (offset, option::of("[A-Za-z/]{1,12}"));
    option::of(zone.prop_map(|(offset_us, name)| Zone { offset_us, name }))
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        "-?[1-9][0-9]{39,90}".prop_map(|text| Value::from(text.parse::<BigInt>().unwrap())),
        any::<f64>()
            .prop_filter("compares", |x| !x.is_nan())
            .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        vec(any::<u8>(), 0..300).prop_map(|bytes| Value::Bytes(bytes.into())),
        (
            -62_135_596_800_000_000..253_402_300_800_000_000_i64,
            zone(),
            any::<bool>()
        )
            .prop_map(|(micros, zone, fold)| Value::from(DateTime { micros, zone, fold })),
        (0..86_400_000_000_i64, zone(), any::<bool>())
            .prop_map(|(micros, zone, fold)| Value::from(Time { micros, zone, fold })),
        (-719_162..=2_932_896_i32).prop_map(|days| Value::from(Date { days })),
        (
            -999_999_999..=999_999_999_i32,
            0..86_400_i32,
            0..1_000_000_i32
        )
            .prop_map(|(days, seconds, micros)| Value::from(TimeDelta {
                days,
                seconds,
                micros
            })),
        any::<[u8; 16]>().prop_map(|bytes| Value::Uuid(uuid::Uuid::from_bytes(bytes))),
        "[-+]?[0-9]{1,30}([.][0-9]{0,9})?(E[-+]?[0-9]{1,3})?|NaN|-Infinity"
            .prop_map(|text| Value::Decimal(text.parse().unwrap())),
        (any::<f32>(), any::<f32>())
            .prop_filter("compares", |(re, im)| !re.is_nan() && !im.is_nan())
            .prop_map(|(re, im)| Value::Complex {
                re: re.into(),
                im: im.into()
            }),
        (100..110_i8, vec(any::<u8>(), 0..40))
            .prop_map(|(number, body)| Value::Ext(number, body.into())),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 30, 5, |inner| {
        let list = vec(inner.clone(), 0..5);
        // Elements in the order in which they are stored, so that they compare when read back.
        let set = list.clone().prop_map(|mut elements| {
            elements.sort_by_key(|element| encode(element).unwrap());
            elements.dedup_by_key(|element| encode(element).unwrap());
            elements
        });
        prop_oneof![
            list.clone().prop_map(Value::List),
            list.prop_map(Value::Tuple),
            set.clone().prop_map(Value::Set),
            set.prop_map(Value::FrozenSet),
            vec((inner.clone(), inner), 0..5).prop_map(Value::Dict),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn value_comes_back_by_both_ways_of_reading(value in value()) {
        let payload = encode(&value).unwrap();
        prop_assert_eq!(&decode(&payload).unwrap(), &value);
        prop_assert_eq!(&from_payload::<Value>(&payload).unwrap(), &value);
        prop_assert!(check(&payload).is_ok());
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(
        garbage in vec(prop_oneof![any::<u8>(), 0xC0..=0xDF_u8, 1..12_u8], 0..60),
    ) {
        let by_hand = decode(&garbage);
        if by_hand.is_ok() {
            prop_assert!(check(&garbage).is_ok());
        }
        let _ = from_payload::<Value>(&garbage);
    }

    #[test]
    fn damaged_payload_is_an_error_or_another_value(
        value in value(), place: proptest::sample::Index, byte: u8,
    ) {
        let mut payload = encode(&value).unwrap().to_vec();
        *place.get_mut(&mut payload) = byte;
        if let Ok(value) = decode(&payload) {
            prop_assert!(encode(&value).is_ok());
        }
    }

    #[test]
    fn order_of_elements_makes_no_difference_to_a_set(mut elements in vec(leaf(), 0..8)) {
        let forwards = encode(&Value::Set(elements.clone())).unwrap();
        elements.reverse();
        elements.extend(elements.clone());
        prop_assert_eq!(encode(&Value::Set(elements)).unwrap(), forwards);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As Python writes it, the value, its payload in hex: the rows of `docs/format.md` "Values".
fn golden() -> Vec<(&'static str, Value, &'static str)> {
    let zone = |name: Option<&str>, offset_us| Zone {
        offset_us,
        name: name.map(str::to_owned),
    };
    let uuid = uuid::Uuid::from_u128(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF);
    let big: BigInt = "-18446744073709551617".parse().unwrap();
    let mut rows = golden_of_messagepack();
    rows.extend([
        (
            "2**64",
            Value::from(1_i128 << 64),
            "c70a0500010000000000000000",
        ),
        ("-2**64 - 1", Value::from(big), "c70a0501010000000000000001"),
        (
            "(1, 'a')",
            Value::Tuple(vec![1.into(), "a".into()]),
            "d6019201a161",
        ),
        ("()", Value::Tuple(vec![]), "d40190"),
        (
            "{2, 1}",
            Value::Set(vec![2.into(), 1.into()]),
            "c70302920102",
        ),
        (
            "frozenset({1})",
            Value::FrozenSet(vec![1.into()]),
            "d5039101",
        ),
        (
            "complex(1, -2)",
            Value::Complex { re: 1.0, im: -2.0 },
            "d8043ff0000000000000c000000000000000",
        ),
        (
            "Decimal('1.50')",
            Value::Decimal("1.50".parse().unwrap()),
            "d606312e3530",
        ),
        (
            "datetime(1970, 1, 1, fold=1)",
            Value::from(DateTime {
                micros: 0,
                zone: None,
                fold: true,
            }),
            "c70907000000000000000080",
        ),
        (
            "datetime(1970, 1, 1, tzinfo=UTC) - resolution",
            Value::from(DateTime {
                micros: -1,
                zone: Some(zone(None, 0)),
                fold: false,
            }),
            "c71107ffffffffffffffff010000000000000000",
        ),
        (
            "time(0, 0, 0, 1, ZoneInfo('Europe/Berlin'))",
            Value::from(Time {
                micros: 1,
                zone: Some(zone(Some("Europe/Berlin"), 3_600_000_000)),
                fold: false,
            }),
            "c71e0900000000000000010200000000d693a4004575726f70652f4265726c696e",
        ),
        (
            "date(2022, 1, 8)",
            Value::from(Date { days: 19_000 }),
            "d60800004a38",
        ),
        (
            "timedelta(-1, 2, 3)",
            Value::from(TimeDelta {
                days: -1,
                seconds: 2,
                micros: 3,
            }),
            "c70c0affffffff0000000200000003",
        ),
        (
            "UUID('00112233-4455-6677-8899-aabbccddeeff')",
            Value::Uuid(uuid),
            "d80b00112233445566778899aabbccddeeff",
        ),
    ]);
    rows.extend(golden_of_python());
    rows
}

/// What this crate keeps as it is, and Python makes something of.
fn golden_of_python() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "numpy.array([1, 2], '<i2')",
            Value::Ext(
                ext::NDARRAY,
                Bytes::from_static(b"\0\x01\0\0\0\0\0\0\0\0\x02\xa3<i2\x01\0\x02\0"),
            ),
            "c713100001000000000000000002a33c693201000200",
        ),
        (
            "numpy.float32(1.5)",
            Value::Ext(
                ext::NDARRAY,
                Bytes::from_static(b"\x02\0\0\xa3<f4\0\0\xc0\x3f"),
            ),
            "c70b10020000a33c66340000c03f",
        ),
        (
            "Unregistered('app.P', {'x': 1})",
            Value::Ext(ext::OBJECT, Bytes::from_static(b"\xa5app.P\x81\xa1x\x01")),
            "c70a11a56170702e5081a17801",
        ),
    ]
}

fn golden_of_messagepack() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("None", Value::None, "c0"),
        ("True", Value::from(true), "c3"),
        ("42", Value::from(42), "2a"),
        ("-1", Value::from(-1), "ff"),
        ("300", Value::from(300), "cd012c"),
        ("-300", Value::from(-300), "d1fed4"),
        ("2**64 - 1", Value::from(u64::MAX), "cfffffffffffffffff"),
        ("1.5", Value::from(1.5), "cb3ff8000000000000"),
        ("'h\\xe9'", Value::from("h\u{e9}"), "a368c3a9"),
        (
            "b'\\x00\\xff'",
            Value::Bytes(Bytes::from_static(b"\x00\xff")),
            "c40200ff",
        ),
        (
            "[1, 'a']",
            Value::List(vec![1.into(), "a".into()]),
            "9201a161",
        ),
        (
            "{'a': 1}",
            Value::Dict(vec![("a".into(), 1.into())]),
            "81a16101",
        ),
    ]
}

/// They are on people's disks.
#[test]
fn bytes_are_the_golden_ones_and_those_of_the_page() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md");
    let page = std::fs::read_to_string(page).unwrap();
    for (python, value, bytes) in golden() {
        assert_eq!(hex(&encode(&value).unwrap()), bytes, "{python}");
        let row = format!("| `{python}` | `{bytes}` |");
        assert!(page.contains(&row), "docs/format.md lacks {row}");
    }
    for number in 1..=i8::MAX {
        if let Some(name) = ext::name(number) {
            let row = format!("| {number} | {name} |");
            assert!(page.contains(&row), "docs/format.md lacks {row}");
        }
    }
}

#[test]
fn struct_of_a_program_is_a_dict_and_may_hold_values() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Reading {
        name: String,
        at: Value,
        count: BigInt,
        tags: BTreeMap<String, Option<f64>>,
    }
    let reading = Reading {
        name: "a".into(),
        at: Value::from(Date { days: 1 }),
        count: BigInt::from(1 << 100),
        tags: BTreeMap::from([("x".into(), Some(1.5)), ("y".into(), None)]),
    };
    let payload = to_payload(&reading).unwrap();
    assert_eq!(from_payload::<Reading>(&payload).unwrap(), reading);
    let Value::Dict(fields) = decode(&payload).unwrap() else {
        panic!("a struct is a dict")
    };
    assert_eq!(fields[1], ("at".into(), Value::from(Date { days: 1 })));
    assert_eq!(fields[2], ("count".into(), Value::Int(1 << 100)));
    assert!(matches!(
        from_payload::<u8>(&payload),
        Err(ValueError::Decode(_))
    ));
}

#[test]
fn deepest_value_is_taken_and_a_deeper_one_is_refused_both_ways() {
    type Wrap = fn(Vec<Value>) -> Value;
    for wrap in [Value::List as Wrap, Value::Tuple, Value::Set] {
        let nested = |depth| (0..depth).fold(Value::None, |inner, _| wrap(vec![inner]));
        let deepest = encode(&nested(VALUE_DEPTH_MAX)).unwrap();
        assert_eq!(decode(&deepest).unwrap(), nested(VALUE_DEPTH_MAX));
        assert_eq!(
            from_payload::<Value>(&deepest).unwrap(),
            nested(VALUE_DEPTH_MAX)
        );
        let error = encode(&nested(VALUE_DEPTH_MAX + 1)).unwrap_err();
        assert!(matches!(error, ValueError::TooDeep), "{error}");
    }
    let arrays = [vec![0x91; VALUE_DEPTH_MAX + 1], vec![0xC0]].concat();
    assert!(matches!(decode(&arrays), Err(ValueError::TooDeep)));
    assert!(matches!(
        from_payload::<Value>(&arrays),
        Err(ValueError::Decode(_))
    ));
    let endless = vec![0x91; 1 << 20];
    assert!(matches!(decode(&endless), Err(ValueError::TooDeep)));
    assert!(from_payload::<Value>(&endless).is_err());
}

/// The payload of an object of a class with this name and content.
fn object(name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = to_payload(name).unwrap().to_vec();
    body.extend_from_slice(content);
    encode(&Value::Ext(ext::OBJECT, body.into())).map_or_else(
        |error| error.to_string().into_bytes(),
        |payload| payload.to_vec(),
    )
}

#[test]
fn objects_are_looked_into_for_their_depth_and_their_name() {
    let nested = |depth| (0..depth).fold(vec![0xC0], |inner, _| object("a", &inner));
    check(&nested(VALUE_DEPTH_MAX)).unwrap();
    let one_more = Value::Ext(
        ext::OBJECT,
        [&[0xA1, b'a'][..], &nested(VALUE_DEPTH_MAX)]
            .concat()
            .into(),
    );
    assert!(matches!(encode(&one_more), Err(ValueError::TooDeep)));
    check(&object(&"a".repeat(CLASS_NAME_BYTES_MAX), &[0xC0])).unwrap();
    for body in [
        vec![],
        vec![0x01],
        vec![0xA2, b'a'],
        vec![0xA1, b'a'],
        vec![0xA1, b'a', 0xC1],
        vec![0xA1, b'a', 0x01, 0x01],
        [&[0xDA, 0x01, 0x00][..], &[b'a'; 256], &[0xC0]].concat(),
    ] {
        let mut payload = vec![0xC8];
        payload.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        payload.push(ext::OBJECT.to_be_bytes()[0]);
        payload.extend_from_slice(&body);
        let checked = check(&payload);
        assert!(
            matches!(checked, Err(ValueError::Malformed { .. })),
            "{body:?}: {checked:?}"
        );
    }
}

#[test]
fn value_over_the_limit_is_refused() {
    let bytes = |length: usize| Value::Bytes(vec![0; length].into());
    assert!(encode(&bytes(PAYLOAD_BYTES_MAX - 5)).is_ok());
    let error = encode(&bytes(PAYLOAD_BYTES_MAX)).unwrap_err();
    let text = "value is 8388610 bytes when encoded; the limit is 8388605 bytes";
    assert_eq!(error.to_string(), text);
}

#[test]
fn list_that_claims_more_than_there_is_takes_no_memory() {
    for payload in [
        &[0xDD, 0xFF, 0xFF, 0xFF, 0xFF][..],
        &[0xDF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
    ] {
        assert!(matches!(decode(payload), Err(ValueError::Malformed { .. })));
        assert!(matches!(check(payload), Err(ValueError::Malformed { .. })));
    }
}

#[test]
fn dates_and_numbers_out_of_their_bounds_are_refused_both_ways() {
    let zone = Some(Zone {
        offset_us: 86_400_000_000,
        name: None,
    });
    for value in [
        Value::from(Date { days: 2_932_897 }),
        Value::from(DateTime {
            micros: i64::MAX,
            zone: None,
            fold: false,
        }),
        Value::from(DateTime {
            micros: 0,
            zone,
            fold: false,
        }),
        Value::from(Time {
            micros: -1,
            zone: None,
            fold: false,
        }),
        Value::from(TimeDelta {
            days: 0,
            seconds: 86_400,
            micros: 0,
        }),
    ] {
        assert!(
            matches!(encode(&value), Err(ValueError::Encode(_))),
            "{value:?}"
        );
    }
    for payload in [
        &[0xD6, 0x08, 0x7F, 0xFF, 0xFF, 0xFF][..],
        &[0xC7, 9, 7, 0, 0, 0, 0, 0, 0, 0, 0, 3],
        &[0xD4, 6, b'x'],
        &[0xD4, 5, 2],
        &[0xD4, 11, 0],
        &[0xD4, 4, 0],
        &[0xC7, 2, 1, 0x91, 0x91],
    ] {
        assert!(
            matches!(decode(payload), Err(ValueError::Malformed { .. })),
            "{payload:x?}"
        );
    }
}

#[test]
fn text_that_is_no_decimal_is_refused() {
    for text in [
        "", ".", "1.2.3", "1E", "E5", "inf", "0x1", "--1", "NaNx", "1 ",
    ] {
        assert!(text.parse::<Decimal>().is_err(), "{text:?}");
    }
    for text in ["0", "-1.", ".5", "1E+5", "sNaN12", "-Infinity"] {
        assert_eq!(text.parse::<Decimal>().unwrap().to_string(), text);
    }
}

#[test]
fn type_of_a_payload_is_named_as_in_python() {
    for (value, name) in [
        (Value::None, "None"),
        (Value::from(1), "int"),
        (Value::from(1_i128 << 80), "int"),
        (Value::from("a"), "str"),
        (Value::Dict(vec![]), "dict"),
        (Value::Tuple(vec![]), "tuple"),
        (Value::from(Date { days: 0 }), "date"),
        (Value::Ext(99, Bytes::from_static(b"x")), "an unknown type"),
    ] {
        assert_eq!(type_name(&encode(&value).unwrap()), name);
    }
    assert_eq!(type_name(&[]), "nothing");
}

#[test]
fn extension_numbers_are_distinct() {
    let numbers: Vec<i8> = (i8::MIN..=i8::MAX)
        .filter(|n| ext::name(*n).is_some())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17]);
}

#[test]
fn moment_is_the_clock_less_its_offset() {
    let zone = Some(Zone {
        offset_us: 3_600_000_000,
        name: None,
    });
    assert_eq!(
        DateTime {
            micros: 0,
            zone,
            fold: false
        }
        .utc_micros(),
        Some(-3_600_000_000)
    );
    assert_eq!(
        DateTime {
            micros: 0,
            zone: None,
            fold: false
        }
        .utc_micros(),
        None
    );
}
