//! One process and its own store.

use std::path::Path;
use std::time::Instant;

use objsync::{Bytes, Dict, Durability, KeyRange, Options};

use crate::{Result, data, figure};

/// Measures a store of 50,000 records at full scale.
pub(crate) fn measure(folder: &Path, scale: u32) -> Result<()> {
    let count = 50_000 / scale;
    let keys = data::keys("user", count)?;
    let mixed = data::shuffled(&keys);
    let payload = data::record(7)?;
    let path = folder.join("local");
    let with = |durability| Options {
        durability: Some(durability),
        ..Options::default()
    };

    let d = Dict::open(&path, with(Durability::Buffered))?;
    let set = |d: &Dict, key: &Bytes| d.set(key, payload.clone()).wait().map(drop);
    figure::each("local set buffered", &mixed, |key| set(&d, key))?;
    figure::together("local get", &mixed, |key| d.get(key).map(drop))?;
    let hot: Vec<_> = mixed.iter().cycle().take(100).cloned().collect();
    let hot: Vec<_> = hot.iter().cycle().take(keys.len()).collect();
    figure::together("local get of 100 keys", &hot, |key| d.get(key).map(drop))?;
    let start = Instant::now();
    let seen = d.scan(KeyRange::default(), false)?.count();
    figure::print(
        "local scan",
        start.elapsed().as_secs_f64() * 1e6 / seen as f64,
        "us",
    )?;
    let more = data::keys("batch", count)?;
    let start = Instant::now();
    d.update(more.into_iter().map(|key| (key, payload.clone())))?;
    let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(count);
    figure::print("local update", each, "us")?;
    figure::each("local delete", &mixed[..mixed.len() / 2], |key| {
        d.delete(key).wait().map(drop)
    })?;
    d.close()?;

    let start = Instant::now();
    let d = Dict::open(&path, with(Durability::Sync))?;
    d.get(&keys[0])?;
    figure::print(
        "local open and read",
        start.elapsed().as_secs_f64() * 1e3,
        "ms",
    )?;
    let few = &mixed[..(600 / scale as usize).max(20)];
    figure::each("local set sync", few, |key| set(&d, key))?;
    d.close()?;
    Ok(())
}
