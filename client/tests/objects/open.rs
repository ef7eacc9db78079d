//! Opening, refusing and closing.

use std::time::{Duration, Instant};

use objsync::{Change, Dict, ErrorKind, KeyRange, Link, Options, Target, limits};

use crate::peer::{Peer, entries, k, text, v};

#[test]
fn what_was_written_is_there_when_the_store_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.obj");
    let dict = Dict::open(&path, Options::default()).unwrap();
    let ack = dict.set(&k("a"), v("1")).wait().unwrap();
    assert_eq!(dict.last_ack(), Some(ack));
    dict.close().unwrap();
    let again = Dict::open(&path, Options::default()).unwrap();
    assert_eq!(text(&again, "a").as_deref(), Some("1"));
}

#[test]
fn first_content_fills_a_new_dictionary_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let with = |value: &str| {
        let content = Some(vec![Change {
            key: k("a").into(),
            value: Some(v(value)),
        }]);
        Dict::open(
            &path,
            Options {
                content,
                ..Options::default()
            },
        )
        .unwrap()
    };
    let first = with("first");
    first.close().unwrap();
    let second = with("second");
    assert_eq!(
        entries(&second),
        [(String::from("\"a\""), String::from("first"))]
    );
}

#[test]
fn second_open_in_a_process_shares_the_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let one = Dict::open(&path, Options::default()).unwrap();
    let other = Dict::open(path.join("."), Options::default()).unwrap();
    one.set(&k("a"), v("1")).wait().unwrap();
    assert_eq!(text(&other, "a").as_deref(), Some("1"));
    assert_eq!(other.status().role.to_string(), "owner");
    one.close().unwrap();
    other.set(&k("b"), v("2")).wait().unwrap();
    assert_eq!(other.len().unwrap(), 2);
}

#[test]
fn namespaces_of_one_store_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let open = |name: &str| {
        Dict::open(
            &path,
            Options {
                namespace: name.into(),
                ..Options::default()
            },
        )
        .unwrap()
    };
    let (one, other) = (open("one"), open("other"));
    one.set(&k("a"), v("1")).wait().unwrap();
    assert_eq!(text(&other, "a"), None);
    assert_eq!(other.len().unwrap(), 0);
}

#[test]
fn closed_handle_refuses_everything_and_closing_again_is_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    dict.close().unwrap();
    dict.close().unwrap();
    assert_eq!(dict.get(&k("a")).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(
        dict.set(&k("a"), v("1")).wait().unwrap_err().kind(),
        ErrorKind::Closed
    );
    let scan = dict.scan(KeyRange::default(), false);
    assert_eq!(scan.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(dict.status().role.to_string(), "closed");
    assert!(!dict.is_current(&dict.stamp(&k("a"))));
}

#[test]
fn what_is_over_a_limit_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dict = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    let long_key = vec![0x30; limits::KEY_BYTES_MAX + 1];
    let large = vec![0xc0; limits::VALUE_BYTES_MAX + 1];
    let part = Change {
        key: k("a").into(),
        value: Some(vec![0xc0; 6 << 20].into()),
    };
    let batch: Vec<_> = (0..3)
        .map(|number| Change {
            key: k(&number.to_string()).into(),
            ..part.clone()
        })
        .collect();
    for refused in [
        dict.set(&long_key, v("x")).wait(),
        dict.set(b"no key", v("x")).wait(),
        dict.set(&k("a"), large).wait(),
        dict.batch(batch).wait(),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(dict.len().unwrap(), 0);
}

#[test]
fn readonly_handle_reads_and_refuses_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let writer = Dict::open(&path, Options::default()).unwrap();
    writer.set(&k("a"), v("1")).wait().unwrap();
    let reader = Dict::open(
        &path,
        Options {
            readonly: true,
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(text(&reader, "a").as_deref(), Some("1"));
    assert_eq!(
        reader.delete(&k("a")).wait().unwrap_err().kind(),
        ErrorKind::Denied
    );
    assert_eq!(
        reader.incr(&k("n"), 1).wait().unwrap_err().kind(),
        ErrorKind::Denied
    );
}

#[test]
fn handle_of_a_prefix_sees_and_changes_only_its_own_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let all = Dict::open(&path, Options::default()).unwrap();
    all.set(&k("user:ann"), v("1")).wait().unwrap();
    all.set(&k("price"), v("2")).wait().unwrap();
    let range = Some(objsync::key::str_prefix("user:"));
    let users = Dict::open(
        &path,
        Options {
            range,
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(users.len().unwrap(), 1);
    assert_eq!(text(&users, "price"), None);
    assert_eq!(
        users.set(&k("price"), v("3")).wait().unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn nobody_there_and_no_promotion_is_unavailable_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let timeout = Duration::from_millis(200);
    let options = Options {
        promote: false,
        timeout,
        ..Options::default()
    };
    let start = Instant::now();
    let error = Dict::open(&path, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(start.elapsed() >= timeout);
    assert!(start.elapsed() < timeout * 10, "{:?}", start.elapsed());
    assert!(!path.exists(), "it makes nothing");
}

#[test]
fn serving_a_store_that_another_process_owns_names_its_pid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let owner = Peer::open(&path);
    let options = Options {
        timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let error = Dict::serve_at(&path, ([127, 0, 0, 1], 0).into(), options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains(&owner.pid().to_string()),
        "{error}"
    );
}

#[test]
fn link_lets_one_in_with_its_rights_until_it_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let owner = Dict::open(folder.path().join("data"), Options::default()).unwrap();
    owner.set(&k("a"), v("1")).wait().unwrap();
    let request = objsync::GrantRequest {
        readonly: true,
        label: "test".into(),
        ..Default::default()
    };
    let link = owner.grant(request).wait().unwrap();
    let target = Target::Link(Link::parse(&link.to_string()).unwrap());
    let reader = Dict::connect(&target, Options::default()).unwrap();
    assert_eq!(text(&reader, "a").as_deref(), Some("1"));
    assert_eq!(
        reader.set(&k("a"), v("2")).wait().unwrap_err().kind(),
        ErrorKind::Denied
    );

    let grants = owner.grants().wait().unwrap();
    assert_eq!(grants.len(), 1);
    owner.revoke(grants[0].peer).wait().unwrap();
    crate::peer::until("the reader is cut off", || {
        reader
            .sync()
            .wait()
            .is_err_and(|error| error.kind() == ErrorKind::Denied)
    });
    assert_eq!(
        owner.revoke(grants[0].peer).wait().unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn link_to_another_store_is_refused_naming_both_keys() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| Dict::open(folder.path().join(name), Options::default()).unwrap();
    let (one, other) = (open("one"), open("other"));
    let grant = |dict: &Dict| dict.grant(Default::default()).wait().unwrap();
    let (mut link, wrong) = (grant(&one), grant(&other));
    link.server = wrong.server;
    let error = Dict::connect(&Target::Link(link.clone()), Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(
        error.to_string().contains(&wrong.server.to_string()),
        "{error}"
    );
}

async fn does_everything(object: &objsync::aio::DiskObject) {
    let watch = object.watch(None).await.unwrap();
    object.set("a", &1).await.unwrap();
    assert_eq!(object.incr("a", 2).await.unwrap(), 3);
    assert_eq!(object.get::<i64>("a").await.unwrap(), Some(3));
    assert!(
        object
            .compare_and_set("a", Some(&3), Some(&4))
            .await
            .unwrap()
    );
    assert_eq!(object.items::<i64>().await.unwrap(), [("a".into(), 4)]);
    assert_eq!(
        watch
            .next()
            .await
            .unwrap()
            .unwrap()
            .decode::<i64>()
            .unwrap(),
        Some(1)
    );
    object.update([("b", 5), ("c", 6)]).await.unwrap();
    assert_eq!(object.prefix::<i64>("b").await.unwrap(), [("b".into(), 5)]);
    assert!(object.delete("a").await.unwrap());
    assert_eq!(object.clear().await.unwrap(), 2);
    assert!(object.is_empty().await.unwrap());
    object.sync().await.unwrap();
    object.close().await.unwrap();
}

#[test]
fn awaited_calls_do_what_waited_ones_do_on_an_owner_and_on_a_peer() {
    let folder = tempfile::tempdir().unwrap();
    let (own, shared) = (folder.path().join("own"), folder.path().join("shared"));
    let _owner = Peer::open(&shared);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        does_everything(&objsync::aio::DiskObject::open(&own).await.unwrap()).await;
        does_everything(&objsync::aio::DiskObject::open(&shared).await.unwrap()).await;
    });
}
