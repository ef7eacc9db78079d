use objsync::ErrorKind;
use serde_json::json;

use super::*;

fn round(text: &str) -> String {
    let json = parse(text.as_bytes()).unwrap();
    value_to_json(&value_from_json(&json).unwrap())
        .unwrap()
        .to_string()
}

#[test]
fn every_form_comes_back_as_it_went_in() {
    for text in [
        "null",
        "true",
        "-9223372036854775808",
        "18446744073709551616",
        "-123456789012345678901234567890",
        "1.0",
        "-0.0",
        "1e300",
        "{\"$float\":\"-inf\"}",
        "\"\\u0000\"",
        "{\"$bytes\":\"\"}",
        "{\"$complex\":[{\"$float\":\"nan\"},-0.0]}",
        "{\"$decimal\":\"NaN\"}",
        "{\"$decimal\":\"-1.50E+3\"}",
        "{\"$date\":\"9999-12-31\"}",
        "{\"$time\":\"23:59:59.999999+05:30\"}",
        "{\"$datetime\":\"0001-01-01T00:00:00\"}",
        "{\"$datetime\":\"2026-10-25T02:30:00.000001-00:00:01\"}",
        "{\"$datetime_fold\":\"2026-10-25T02:30:00+01:00[Europe/Berlin]\"}",
        "{\"$time_fold\":\"02:30:00\"}",
        "{\"$ext\":[99,\"AAE=\"]}",
        "{\"$ext\":[17,\"AAE=\"]}",
        "{\"$object\":[\"shop.Item\",{\"level\":{\"$object\":[\"shop.Level\",\"LOW\"]},\"price\":3}]}",
        "{\"$timedelta\":[-999999999,0,0]}",
        "{\"$dict\":[]}",
        "{\"$dict\":[[null,1],[{\"$frozenset\":[1]},2]]}",
        "{\"$set\":[]}",
        "{\"$a\":1,\"$b\":2}",
        "{\"a\":{\"$tuple\":[[],{}]}}",
    ] {
        let wanted = match text {
            "{\"$dict\":[]}" => "{}",
            "1e300" => "1e+300",
            text => text,
        };
        assert_eq!(round(text), wanted);
    }
}

#[test]
fn number_is_an_int_unless_it_has_a_point_or_an_exponent() {
    let payload = |text: &str| value_from_json(&serde_json::from_str(text).unwrap()).unwrap();
    assert_ne!(payload("1"), payload("1.0"));
    assert_eq!(payload("1e0"), payload("1.0"));
}

#[test]
fn what_is_no_value_is_refused_by_its_name() {
    for json in [
        json!({"$nonsense": 1}),
        json!({"$bytes": "a"}),
        json!({"$set": {}}),
        json!({"$dict": [[1]]}),
        json!({"$uuid": "x"}),
        json!({"$date": "2026-02-30"}),
        json!({"$datetime": "2026-02-03"}),
        json!({"$time": "25:00"}),
        json!({"$timedelta": [1, 2]}),
        json!({"$timedelta": [1, 86_400, 0]}),
        json!({"$complex": [1]}),
        json!({"$decimal": "one"}),
        json!({"$float": 1}),
        json!({"$set": [[1]]}),
        json!({"$object": ["$", 1, 2]}),
        json!({"$object": [1, 2]}),
    ] {
        let Err(Failure::Usage(text)) = value_from_json(&json) else {
            panic!("{json} was taken");
        };
        assert!(text.contains('$') || text.contains("set"), "{json}: {text}");
    }
}

#[test]
fn value_nested_too_deep_is_refused() {
    let deep = format!("{}{}", "[".repeat(190), "]".repeat(190));
    assert_eq!(round(&deep), deep);
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    assert!(matches!(
        value_from_json(&parse(deep.as_bytes()).unwrap()),
        Err(Failure::Usage(_))
    ));
    assert!(
        parse("[".repeat(1 << 20).as_bytes()).is_err(),
        "before the stack is full"
    );
    assert_eq!(levels(b"[{\"[[[\\\"[\": []}]"), 3);
}

#[test]
fn key_is_what_a_key_may_be() {
    for text in [
        "null",
        "7",
        "-1.5",
        "\"a\"",
        "{\"$tuple\":[\"a\",{\"$bytes\":\"AA==\"}]}",
    ] {
        let json = serde_json::from_str(text).unwrap();
        let back = key_to_json(&key_from_json(&json).unwrap()).unwrap();
        assert_eq!(back.to_string(), text);
    }
    assert_eq!(
        key_from_json(&json!(true)).unwrap(),
        key_from_json(&json!(1)).unwrap()
    );
    assert_eq!(
        key_from_json(&json!(1.0)).unwrap(),
        key_from_json(&json!(1)).unwrap()
    );
    for json in [
        json!([1]),
        json!({"a": 1}),
        json!({"$set": [1]}),
        json!({"$float": "nan"}),
    ] {
        assert!(key_from_json(&json).is_err(), "{json}");
    }
}

#[test]
fn payload_that_does_not_read_is_damage_and_not_usage() {
    let Err(Failure::Object { error, .. }) = value_to_json(&[0xc1]) else {
        panic!("it was read");
    };
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}
