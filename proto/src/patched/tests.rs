use proptest::prelude::*;

use super::*;
use crate::dictionary::tests::{sample, trained};
use crate::operation::Step;
use crate::stored::Compression;
use crate::value::{self, Value};

fn text(text: &str) -> Bytes {
    value::to_payload(text).unwrap()
}

fn record(bulk: usize) -> Bytes {
    let fields = vec![
        (
            Value::from("bulk"),
            Value::from("bulk ".repeat(bulk).as_str()),
        ),
        (Value::from("list"), Value::List(Vec::new())),
        (Value::from("number"), Value::from(1)),
        (Value::from("set"), Value::Set(Vec::new())),
        (Value::from("dict"), Value::Dict(Vec::new())),
    ];
    value::encode(&Value::Dict(fields)).unwrap()
}

fn at(field: &str, edit: Edit) -> Patch {
    Patch {
        path: vec![Step::Field { key: text(field) }],
        revision: Some(Revision(7)),
        create: edit.creates(),
        edit,
    }
}

fn any_patch() -> impl Strategy<Value = Patch> {
    let field = prop_oneof![
        Just("list"),
        Just("other"),
        Just("number"),
        Just("set"),
        Just("dict")
    ];
    let items = proptest::collection::vec("[a-z]{0,9}".prop_map(|item| text(&item)), 0..4);
    (field, items, any::<i64>(), 0..12_u8).prop_map(|(field, items, by, kind)| {
        at(
            field,
            match kind {
                0 | 1 => Edit::Append { items },
                2 => Edit::AddNumber { by: by % 1000 },
                3 => Edit::Clear,
                4 | 5 => Edit::Add { items },
                6 => Edit::Discard { items },
                7 => Edit::AddNumber { by },
                8 | 9 => Edit::SetField {
                    field: text(["a", "b", "c"][items.len() % 3]),
                    value: items.first().cloned().unwrap_or(text("nothing")),
                },
                10 => Edit::Merge {
                    fields: items
                        .iter()
                        .map(|item| (item.clone(), text("merged")))
                        .collect(),
                },
                _ => Edit::Replace {
                    value: text("instead"),
                },
            },
        )
    })
}

proptest! {
    /// However a log is cut into steps: the same bytes, packed or not.
    #[test]
    fn edits_at_once_come_to_the_same_bytes_as_one_by_one(
        patches in proptest::collection::vec(any_patch(), 1..12), is_packed: bool, cut in 0..12_usize,
    ) {
        let compression = if is_packed { Compression::Zstd(9) } else { Compression::None };
        let value = stored::seal(&record(30), compression).unwrap();
        let (mut one_by_one, mut edits) = (value.clone(), Vec::new());
        for patch in &patches {
            let edit = edit::encode(patch);
            if let Ok(next) = apply(&one_by_one, std::slice::from_ref(&edit)) {
                one_by_one = next;
                edits.push(edit);
            }
        }
        prop_assume!(!edits.is_empty());
        prop_assert_eq!(&apply(&value, &edits).unwrap(), &one_by_one);
        let (first, rest) = edits.split_at(cut.min(edits.len()));
        let between = if first.is_empty() { value } else { apply(&value, first).unwrap() };
        let end = if rest.is_empty() { between } else { apply(&between, rest).unwrap() };
        prop_assert_eq!(end, one_by_one);
    }

    #[test]
    fn hostile_edits_and_values_are_errors_or_values_but_no_panic(
        mut edit in proptest::collection::vec(any::<u8>(), 0..60),
        value in proptest::collection::vec(any::<u8>(), 0..60),
        patch in any_patch(), place: usize, byte: u8,
    ) {
        let good = stored::seal(&record(1), Compression::None).unwrap();
        let value = Bytes::from(value);
        let mut bent = super::edit::encode(&patch).to_vec();
        let place = place % bent.len();
        bent[place] = byte;
        edit.truncate(50);
        for edit in [Bytes::from(edit), Bytes::from(bent)] {
            for value in [&good, &value] {
                if let Ok(made) = apply(value, std::slice::from_ref(&edit)) {
                    prop_assert!(stored::check(&made).is_ok());
                }
            }
        }
    }
}

#[test]
fn decided_patch_is_told_without_its_condition_and_only_where_it_is_shorter() {
    let key = Bytes::from_static(b"key");
    let patch = at(
        "list",
        Edit::Append {
            items: vec![text("item")],
        },
    );
    let value = stored::seal(&record(30), Compression::None).unwrap();
    let told = told(&key, &patch, (Revision(9), &value), &value).unwrap();
    assert_eq!((told.base, &told.key), (Revision(9), &key));
    let decoded = edit::decode(&told.edit).unwrap();
    assert_eq!(
        decoded,
        Patch {
            revision: None,
            ..patch.clone()
        }
    );
    let limit = told.edit.len() + BASE_BYTES;
    let before = stored::seal(&record(30), Compression::None).unwrap();
    let base = (Revision(9), &before);
    let of_bytes = |bytes: usize| super::told(&key, &patch, base, &vec![0; bytes].into());
    assert!(of_bytes(limit).is_none());
    assert!(of_bytes(limit + 1).is_some());
}

/// Who applies a part has the value alone, and would need the dictionary too.
#[test]
fn patch_of_a_value_with_a_dictionary_is_told_whole_and_never_applied_as_a_part() {
    let dictionary = trained(0);
    let text = Value::from(std::str::from_utf8(&sample(1)).unwrap());
    let list = value::encode(&Value::List(vec![text])).unwrap();
    let before = stored::seal_with(&list, Compression::Zstd(3), Some(&dictionary)).unwrap();
    assert_eq!(stored::dictionary_of(&before), Some(dictionary.id()));
    let items = vec![value::to_payload("item").unwrap()];
    let patch = Patch::from(Edit::Append { items });
    let key = Bytes::from_static(b"key");
    let of = |before: &Bytes| told(&key, &patch, (Revision(9), before), &vec![0; 999].into());
    assert!(of(&before).is_none());
    assert!(of(&stored::seal(&list, Compression::Zstd(3)).unwrap()).is_some());
    let edit = edit::encode(&patch);
    let error = apply(&before, std::slice::from_ref(&edit)).unwrap_err();
    assert!(matches!(
        error,
        PatchedError::Stored(StoredError::NoDictionary { .. })
    ));

    let packed = stored::repack(&list, &before, Some(&dictionary)).unwrap();
    assert_eq!(stored::dictionary_of(&packed), Some(dictionary.id()));
    assert!(matches!(
        stored::repack(&list, &before, None).map(|packed| stored::dictionary_of(&packed)),
        Ok(None)
    ));
}

/// Bytes that stores and peers have: they may not change.
#[test]
fn edit_is_the_golden_one() {
    let patch = at(
        "list",
        Edit::Append {
            items: vec![text("item")],
        },
    );
    let golden = b"\x94\x91\x92\x00\xc4\x05\xa4list\xc0\xc3\x92\x00\x91\xc4\x05\xa4item";
    assert_eq!(&edit::encode(&patch)[..], golden);
}

#[test]
fn value_stays_packed_as_it_was_also_where_that_does_not_pay() {
    let tiny = value::encode(&Value::List(Vec::new())).unwrap();
    let packed = stored::seal(&record(30), Compression::Zstd(3)).unwrap();
    let packed = stored::repack(&tiny, &packed, None).unwrap();
    assert!(matches!(
        stored::check(&packed),
        Ok(stored::Codec::Zstd { .. })
    ));
    let plain = stored::seal(&tiny, Compression::None).unwrap();
    let edit = edit::encode(&Patch::from(Edit::Append {
        items: vec![text("item")],
    }));
    for value in [packed, plain] {
        let made = apply(&value, std::slice::from_ref(&edit)).unwrap();
        assert_eq!(made[1], value[1], "the codec");
        let list = value::decode(&stored::open(&made).unwrap()).unwrap();
        assert_eq!(list, Value::List(vec![Value::from("item")]));
    }
}
