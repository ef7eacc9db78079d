//! Goal: a patch of a payload comes to what the same change of the decoded value would; one that
//! cannot be applied says why and where; bytes from outside are an error and never a panic.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{PatchError, apply};
use crate::limits::CONTAINER_BYTES_MAX;
use crate::operation::{Edit, Patch, Step};
use crate::value::{self, Value};

fn payload(value: &Value) -> Bytes {
    value::encode(value).unwrap()
}

fn field(name: &str) -> Step {
    Step::Field {
        key: payload(&name.into()),
    }
}

fn at(path: Vec<Step>, edit: Edit) -> Patch {
    Patch {
        path,
        revision: None,
        create: false,
        edit,
    }
}

fn dict(fields: &[(&str, Value)]) -> Value {
    let pair = |(name, value): &(&str, Value)| ((*name).into(), value.clone());
    Value::Dict(fields.iter().map(pair).collect())
}

/// The number, and the value after it; none where nothing changes.
fn patched(value: &Value, patch: &Patch) -> Result<(i64, Option<Value>), PatchError> {
    let applied = apply(Some(&payload(value)), patch)?;
    let decoded = applied.payload.map(|new| value::decode(&new).unwrap());
    Ok((applied.number, decoded))
}

fn sample() -> Value {
    let inner = dict(&[("x", 1.into()), ("y", "two".into())]);
    let list = Value::List(vec![1.into(), inner.clone(), 1.0.into()]);
    let set = Value::Set(vec![1.into(), "a".into()]);
    dict(&[("d", inner), ("l", list), ("s", set), ("n", 41.into())])
}

fn edit(path: &[Step], edit: Edit) -> (i64, Option<Value>) {
    patched(&sample(), &at(path.to_vec(), edit)).unwrap()
}

/// The part of a changed sample, of which nothing else has changed.
fn part(value: Option<Value>, name: &str) -> Value {
    let (Some(Value::Dict(pairs)), Value::Dict(before)) = (value, sample()) else {
        panic!("it is a dict and changed");
    };
    for pair in &pairs {
        assert!(pair.0 == name.into() || before.contains(pair), "{pair:?}");
    }
    let mut pairs = pairs.into_iter();
    pairs.find(|(key, _)| *key == name.into()).unwrap().1
}

fn one() -> Bytes {
    payload(&1.into())
}

fn key(name: &str) -> Bytes {
    payload(&name.into())
}

#[test]
fn edit_of_a_list_changes_it_and_nothing_else() {
    let path = [field("l")];
    let (number, new) = edit(&path, Edit::Append { items: vec![one()] });
    assert_eq!(number, 4);
    assert!(matches!(part(new, "l"), Value::List(all) if all.len() == 4 && all[3] == 1.into()));

    let item = payload(&true.into());
    let (number, new) = edit(&path, Edit::Remove { item });
    assert_eq!(number, 1, "True is 1, as in Python");
    assert!(matches!(part(new, "l"), Value::List(all) if all.len() == 2 && all[1] == 1.0.into()));
    let item = payload(&7.into());
    assert_eq!(edit(&path, Edit::Remove { item }), (0, None));

    let splice = Edit::Splice {
        start: 1,
        delete_count: 9,
        items: vec![one(), one()],
    };
    let (number, new) = edit(&path, splice);
    assert_eq!(number, 3);
    assert_eq!(part(new, "l"), Value::List(vec![1.into(); 3]));

    let (number, new) = edit(&path, Edit::Clear);
    assert_eq!((number, part(new, "l")), (3, Value::List(vec![])));
}

#[test]
fn edit_of_a_dict_changes_it_and_nothing_else_and_keeps_its_order() {
    let path = [field("d")];
    let set = |field: Bytes, value: Bytes| edit(&path, Edit::SetField { field, value });
    assert_eq!(set(key("x"), one()), (0, None), "it is 1 already");
    let (number, new) = set(one(), one());
    assert_eq!(number, 1);
    assert!(matches!(part(new, "d"), Value::Dict(pairs) if pairs.len() == 3));
    let (_, new) = set(key("x"), payload(&9.into()));
    let expected = dict(&[("x", 9.into()), ("y", "two".into())]);
    assert_eq!(part(new, "d"), expected);

    let deep = [field("l"), Step::Index { index: 1 }];
    let (number, new) = edit(&deep, Edit::DeleteField { field: key("x") });
    assert_eq!(number, 1);
    assert!(matches!(part(new, "l"), Value::List(all) if all[1] == dict(&[("y", "two".into())])));
    let missing = Edit::DeleteField { field: key("z") };
    assert_eq!(edit(&deep, missing), (0, None));

    let two = payload(&2.into());
    let fields = vec![(key("y"), one()), (key("z"), one()), (key("z"), two)];
    let (number, new) = edit(&path, Edit::Merge { fields });
    assert_eq!(number, 1, "z is new, once");
    let expected = dict(&[("x", 1.into()), ("y", 1.into()), ("z", 2.into())]);
    assert_eq!(part(new, "d"), expected);

    let (number, new) = edit(&path, Edit::Clear);
    assert_eq!((number, part(new, "d")), (2, dict(&[])));
}

#[test]
fn edit_of_a_set_or_a_number_changes_it_and_nothing_else() {
    let path = [field("s")];
    let items = vec![payload(&1.0.into()), key("b")];
    let (number, new) = edit(&path, Edit::Add { items });
    assert_eq!(number, 1, "1.0 is there");
    assert!(matches!(part(new, "s"), Value::Set(all) if all.len() == 3));

    let items = vec![one(), payload(&7.into())];
    let (number, new) = edit(&path, Edit::Discard { items });
    assert_eq!((number, part(new, "s")), (1, Value::Set(vec!["a".into()])));

    let (number, new) = edit(&path, Edit::Clear);
    assert_eq!((number, part(new, "s")), (2, Value::Set(vec![])));
    let (number, new) = edit(&[field("n")], Edit::AddNumber { by: 1 });
    assert_eq!((number, part(new, "n")), (42, 42.into()));
    let (_, new) = edit(&[], Edit::Replace { value: one() });
    assert_eq!(new, Some(1.into()));
}

#[test]
fn what_is_not_there_is_made_only_if_the_patch_says_so_and_its_container_is() {
    let append = |path: Vec<Step>, create| Patch {
        create,
        ..at(
            path,
            Edit::Append {
                items: vec![payload(&1.into())],
            },
        )
    };
    let not_found = |path: &str| PatchError::NotFound {
        path: path.to_owned(),
    };
    let new = vec![field("d"), field("new")];
    assert_eq!(
        patched(&sample(), &append(new.clone(), false)),
        Err(not_found(r#"["d"]["new"]"#))
    );
    let (number, value) = patched(&sample(), &append(new, true)).unwrap();
    assert_eq!(number, 1);
    let Some(Value::Dict(pairs)) = value else {
        panic!("it was made")
    };
    assert!(matches!(&pairs[0].1, Value::Dict(inner) if inner[2].1 == Value::List(vec![1.into()])));
    let deeper = vec![field("nowhere"), field("new")];
    assert_eq!(
        patched(&sample(), &append(deeper, true)),
        Err(not_found(r#"["nowhere"]"#))
    );
    assert_eq!(apply(None, &append(vec![], false)), Err(not_found("")));
    assert_eq!(
        apply(None, &append(vec![field("d")], true)),
        Err(not_found(""))
    );
    assert!(
        apply(None, &append(vec![], true))
            .unwrap()
            .payload
            .is_some()
    );
    let set = Edit::SetField {
        field: payload(&1.into()),
        value: payload(&1.into()),
    };
    let made = Patch {
        create: true,
        ..at(vec![], set)
    };
    assert_eq!(
        apply(None, &made),
        Err(not_found("")),
        "no field of nothing"
    );
    let far = vec![field("l"), Step::Index { index: 3 }];
    assert_eq!(
        patched(&sample(), &at(far, Edit::Clear)),
        Err(not_found(r#"["l"][3]"#))
    );
}

#[test]
fn refusal_names_key_path_type_and_limit() {
    let said = |value: &Value, patch: &Patch| {
        let key = crate::key::encode(&"cfg".into()).unwrap();
        patched(value, patch)
            .unwrap_err()
            .failure(key.as_bytes())
            .message
    };
    let wrong = at(vec![field("d"), field("x")], Edit::Append { items: vec![] });
    assert_eq!(
        said(&sample(), &wrong),
        "value of key \"cfg\"[\"d\"][\"x\"] is int; appending needs a list"
    );
    let through = at(vec![field("n"), field("x")], Edit::Clear);
    assert_eq!(
        said(&sample(), &through),
        "value of key \"cfg\"[\"n\"] is int; the path needs a dict there"
    );
    let over = at(vec![field("n")], Edit::AddNumber { by: i64::MAX });
    assert!(said(&sample(), &over).contains("is 41; adding 9223372036854775807 passes"));
    let half = payload(&Bytes::from(vec![0; CONTAINER_BYTES_MAX / 2]).into());
    let items = vec![half.clone(), half];
    let message = said(&sample(), &at(vec![field("l")], Edit::Append { items }));
    assert!(
        message.ends_with("is 1048576 bytes: use one key per item"),
        "{message}"
    );
}

#[test]
fn value_that_is_over_the_limit_can_shrink() {
    let big = Bytes::from(vec![0; CONTAINER_BYTES_MAX]);
    let value = dict(&[("a", big.into()), ("b", 1.into())]);
    let delete = Edit::DeleteField {
        field: payload(&"b".into()),
    };
    assert_eq!(patched(&value, &at(vec![], delete)).unwrap().0, 1);
    let grow = Edit::SetField {
        field: payload(&"c".into()),
        value: payload(&1.into()),
    };
    assert!(matches!(
        patched(&value, &at(vec![], grow)),
        Err(PatchError::TooLarge { .. })
    ));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (0..4_i64).prop_map(Value::from),
        "[ab]{1,2}".prop_map(Value::from),
        Just(Value::None),
    ];
    leaf.prop_recursive(3, 30, 5, |inner| {
        let fields = vec(("[abc]", inner.clone()), 0..4).prop_map(|pairs| {
            let mut seen = std::collections::BTreeMap::new();
            seen.extend(pairs);
            Value::Dict(seen.into_iter().map(|(k, v)| (k.into(), v)).collect())
        });
        prop_oneof![vec(inner, 0..5).prop_map(Value::List), fields]
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        "[abc]".prop_map(|name| field(&name)),
        (0..4_u32).prop_map(|index| Step::Index { index }),
    ]
}

/// The part at the end of a path.
fn part_of<'a>(value: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter()
        .try_fold(value, |value, step| match (value, step) {
            (Value::List(all), Step::Index { index }) => all.get_mut(*index as usize),
            (Value::Dict(pairs), Step::Field { key }) => pairs
                .iter_mut()
                .find(|(name, _)| payload(name) == *key)
                .map(|(_, value)| value),
            _ => None,
        })
}

proptest! {
    #[test]
    fn patch_of_a_payload_is_the_change_of_the_value(
        value in any_value(), path in vec(any_step(), 0..3), new in any_value(),
        which in 0..5, name in "[abcd]", start in 0..4_u32, count in 0..3_u32,
    ) {
        let (item, key) = (payload(&new), payload(&name.as_str().into()));
        let edit = match which {
            0 => Edit::Append { items: vec![item] },
            1 => Edit::SetField { field: key, value: item },
            2 => Edit::DeleteField { field: key },
            3 => Edit::Splice { start, delete_count: count, items: vec![item] },
            _ => Edit::Replace { value: item },
        };
        let mut model = value.clone();
        let done = part_of(&mut model, &path).and_then(|part| {
            let place = |pairs: &[(Value, Value)]| {
                pairs.iter().position(|(key, _)| *key == name.as_str().into())
            };
            match (part, which) {
                (Value::List(all), 0) => all.push(new.clone()),
                (Value::List(all), 3) => {
                    let from = (start as usize).min(all.len());
                    let to = (from + count as usize).min(all.len());
                    drop(all.splice(from..to, [new.clone()]));
                }
                (Value::Dict(pairs), 1) => match place(pairs) {
                    Some(at) => pairs[at].1 = new.clone(),
                    None => pairs.push((name.as_str().into(), new.clone())),
                },
                (Value::Dict(pairs), 2) => pairs.retain(|(key, _)| *key != name.as_str().into()),
                (part, 4) => *part = new.clone(),
                _ => return None,
            }
            Some(())
        });
        let found = patched(&value, &at(path, edit));
        prop_assert_eq!(found.is_ok(), done.is_some());
        if let Ok((_, after)) = found {
            prop_assert_eq!(after.unwrap_or(value), model);
        }
    }

    #[test]
    fn damaged_payload_is_an_error_or_another_value_but_no_panic(
        value in any_value(), cut in 0..40_usize, flip in any::<u8>(), place in 0..40_usize,
        path in vec(any_step(), 0..4), start in any::<u32>(), delete_count in any::<u32>(),
    ) {
        let mut bytes = payload(&value).to_vec();
        if let Some(byte) = bytes.get_mut(place) {
            *byte = flip;
        }
        bytes.truncate(bytes.len().saturating_sub(cut % 3));
        let one = payload(&1.into());
        for edit in [
            Edit::Append { items: vec![one.clone()] },
            Edit::Add { items: vec![one.clone()] },
            Edit::Discard { items: vec![one.clone()] },
            Edit::SetField { field: one.clone(), value: one.clone() },
            Edit::Remove { item: one.clone() },
            Edit::Splice { start, delete_count, items: vec![one.clone()] },
            Edit::AddNumber { by: 1 },
            Edit::Clear,
        ] {
            let _ = apply(Some(&bytes), &at(path.clone(), edit));
        }
    }
}
