//! What a write costs: buffered, synced, and queued, one line each.
use bytes::Bytes;
use objsync_proto::ids::*;
use objsync_proto::operation::Operation;
use objsync_store::*;
use std::time::Instant;
fn main() {
    let dir = tempfile::tempdir_in(std::env::args().nth(1).unwrap_or("/work".into())).unwrap();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let (ns, _) = store.create_namespace("default", vec![]).unwrap();
    let payload = rmp_serde::to_vec(&"x".repeat(240)).unwrap();
    let value =
        objsync_proto::stored::seal(&payload, objsync_proto::stored::Compression::None).unwrap();
    let sub = |i: u64, d| Submission {
        namespace: ns,
        operation: Operation::Put {
            key: objsync_proto::key::encode(&format!("key{}", i).into())
                .unwrap()
                .into_bytes(),
            value: value.clone(),
        },
        origin: None,
        durability: Some(d),
    };
    for (name, d, n) in [
        ("buffered", Durability::Buffered, 50_000u64),
        ("buffered", Durability::Buffered, 50_000u64),
        ("sync", Durability::Sync, 3000),
    ] {
        let subs: Vec<_> = (0..n).map(|i| sub(i, d)).collect();
        let mut lat = Vec::new();
        let t = Instant::now();
        for s in subs {
            let t0 = Instant::now();
            store.execute(s).unwrap();
            lat.push(t0.elapsed().as_nanos());
        }
        let total = t.elapsed();
        lat.sort();
        println!(
            "{name}: mean {:?} p50 {} ns p99 {} ns max {} us",
            total / n as u32,
            lat[lat.len() / 2],
            lat[lat.len() * 99 / 100],
            lat[lat.len() - 1] / 1000
        );
    }
    let n = 200_000u64;
    let subs: Vec<_> = (0..n).map(|i| sub(i, Durability::Sync)).collect();
    let (tx, rx) = std::sync::mpsc::channel();
    let t = Instant::now();
    for s in subs {
        let tx = tx.clone();
        store.submit(
            s,
            Box::new(move |r| {
                r.unwrap();
                tx.send(()).unwrap();
            }),
        );
    }
    for _ in 0..n {
        rx.recv().unwrap();
    }
    println!("submit sync: {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
    let t = Instant::now();
    let key: Bytes = objsync_proto::key::encode(&"key77".into())
        .unwrap()
        .into_bytes();
    for _ in 0..100_000 {
        store.get(ns, &key).unwrap();
    }
    println!("get hot: {:?}", t.elapsed() / 100_000);
    println!("{:?}", store.status());
    let t = Instant::now();
    store.close().unwrap();
    println!("close {:?}", t.elapsed());
    let t = Instant::now();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    println!("open {:?} {:?}", t.elapsed(), store.count(ns));
}
