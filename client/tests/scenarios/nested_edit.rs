//! Several processes edit different parts of one value, and the same part.

use std::collections::BTreeMap;

use objsync::{Dict, Options, value};

use crate::peer::{Peer, k};

#[test]
fn edits_of_two_fields_of_one_value_by_several_processes_all_survive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let fields = ["left", "right", "right"];
    let mut editors: Vec<_> = fields.iter().map(|_| Peer::open(&path)).collect();
    for (editor, field) in editors.iter_mut().zip(fields) {
        editor.tell(&format!("edit config {field} 100"));
    }
    for editor in &mut editors {
        assert_eq!(editor.answer(), "ok");
    }
    let dict = Dict::open(&path, Options::default()).unwrap();
    let payload = dict.get(&k("config")).unwrap().unwrap();
    let config: BTreeMap<String, i64> = value::from_payload(&payload).unwrap();
    assert_eq!(
        config,
        BTreeMap::from([("left".into(), 100), ("right".into(), 200)])
    );
}
