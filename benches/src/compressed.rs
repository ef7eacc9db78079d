//! Debian's package index, with compression and without: what it takes on disk, and what a read costs.
//!
//! The index is the largest that `apt-get update` fetched, else what `apt-cache dumpavail` prints:
//! one value a package, its paragraph as a text, under its name.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use objsync::{Bytes, Dict, Durability, Options, key};

use crate::{Result, data, figure};

/// Where apt keeps what it fetched.
const LISTS: &str = "/var/lib/apt/lists";
/// Reads between two looks at the other store, so that both see the same machine.
const TURN_READS: usize = 500;
const LEVELS: [i32; 3] = [3, 5, 9];

/// Measures a store without compression, and one at each level.
pub(crate) fn measure(folder: &Path, scale: u32) -> Result<()> {
    let packages = packages(scale)?;
    let payloads: usize = packages.values().map(Bytes::len).sum();
    figure::print("compressed packages", packages.len() as f64, "")?;
    figure::print("compressed payloads", payloads as f64 / 1e6, "MB")?;
    let plain = Store::load(folder, None, &packages)?;
    plain.print("plain")?;
    for level in LEVELS {
        let packed = Store::load(folder, Some(level), &packages)?;
        packed.print(&format!("level {level}"))?;
        let over = |one: u64, other: u64| one as f64 / other as f64;
        let name = |what: &str| format!("compressed {what}, plain over level {level}");
        figure::print(&name("size"), over(plain.all, packed.all), "")?;
        figure::print(&name("log"), over(plain.log, packed.log), "")?;
        compare_reads(&plain, &packed, &packages, level)?;
    }
    Ok(())
}

/// A store that holds the index, at rest.
struct Store {
    path: PathBuf,
    level: Option<i32>,
    /// Bytes on disk, and of these of log and snapshots.
    all: u64,
    log: u64,
    load_seconds: f64,
    ratio: Option<f64>,
}

impl Store {
    fn load(folder: &Path, level: Option<i32>, packages: &BTreeMap<Bytes, Bytes>) -> Result<Self> {
        let path = folder.join(level.map_or("plain".into(), |level| format!("level-{level}")));
        let dict = open(&path, level)?;
        let start = Instant::now();
        dict.update(
            packages
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        )?;
        let load_seconds = start.elapsed().as_secs_f64();
        let ratio = dict.status().compression.and_then(|how| how.ratio());
        dict.close()?;
        Ok(Self {
            all: bytes(&path)?,
            log: bytes(&path.join("log"))? + bytes(&path.join("snapshots"))?,
            path,
            level,
            load_seconds,
            ratio,
        })
    }

    fn print(&self, name: &str) -> Result<()> {
        let print = |what: &str, value: f64, unit: &str| {
            figure::print(&format!("compressed {what}, {name}"), value, unit)
        };
        print("size", self.all as f64 / 1e6, "MB")?;
        print("log", self.log as f64 / 1e6, "MB")?;
        print("load", self.load_seconds, "s")?;
        match self.ratio {
            Some(ratio) => print("values, ratio", ratio, ""),
            None => Ok(()),
        }
    }
}

fn open(path: &Path, compression: Option<i32>) -> Result<Dict> {
    let options = Options {
        compression,
        durability: Some(Durability::Buffered),
        ..Options::default()
    };
    Ok(Dict::open(path, options)?)
}

/// Reads every package of both, in turns, in an order that follows no other.
fn compare_reads(
    plain: &Store,
    packed: &Store,
    packages: &BTreeMap<Bytes, Bytes>,
    level: i32,
) -> Result<()> {
    let keys: Vec<Bytes> = packages.keys().cloned().collect();
    let keys = data::shuffled(&keys);
    let stores = [
        open(&plain.path, plain.level)?,
        open(&packed.path, packed.level)?,
    ];
    let mut took = [0.0; 2];
    // The first round brings both into memory.
    for round in 0..3 {
        for turn in keys.chunks(TURN_READS) {
            for (store, took) in stores.iter().zip(&mut took) {
                let start = Instant::now();
                for key in turn {
                    let payload = store.get(key)?.ok_or("a package is missing")?;
                    std::hint::black_box(&payload);
                }
                if round > 0 {
                    *took += start.elapsed().as_secs_f64();
                }
            }
        }
    }
    for (key, value) in packages {
        if stores[1].get(key)?.as_ref() != Some(value) {
            return Err("a package came back as another".into());
        }
    }
    let each = |took: f64| took * 1e6 / (2 * keys.len()) as f64;
    figure::print(
        &format!("compressed get, plain beside level {level}"),
        each(took[0]),
        "us",
    )?;
    figure::print(
        &format!("compressed get, level {level}"),
        each(took[1]),
        "us",
    )?;
    let name = format!("compressed get, level {level} over plain");
    figure::print(&name, took[1] / took[0], "")
}

/// Bytes that files take on disk.
fn bytes(path: &Path) -> Result<u64> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Ok(0);
    };
    let mut sum = 0;
    for entry in entries {
        let entry = entry?;
        sum += match entry.file_type()?.is_dir() {
            true => bytes(&entry.path())?,
            // In blocks of 512 bytes: of what is preallocated, what is there.
            false => entry.metadata()?.blocks() * 512,
        };
    }
    Ok(sum)
}

/// Name and paragraph of each package.
fn packages(scale: u32) -> Result<BTreeMap<Bytes, Bytes>> {
    let text = index()?;
    let mut packages = BTreeMap::new();
    for paragraph in text.split("\n\n") {
        let name = paragraph
            .lines()
            .find_map(|line| line.strip_prefix("Package: "));
        if let Some(name) = name {
            let key = key::encode(&name.into())?.into_bytes();
            packages.insert(key, rmp_serde::to_vec(paragraph.trim())?.into());
        }
    }
    let step = scale.max(1) as usize;
    Ok(packages.into_iter().step_by(step).collect())
}

fn index() -> Result<String> {
    let mut lists: Vec<(u64, PathBuf)> = std::fs::read_dir(LISTS)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let is_index = entry.file_name().to_str()?.contains("_Packages");
            is_index.then(|| Some((entry.metadata().ok()?.len(), entry.path())))?
        })
        .collect();
    lists.sort();
    let mut command = match lists.pop() {
        Some((_, path)) => {
            let mut helper = Command::new("/usr/lib/apt/apt-helper");
            helper.arg("cat-file").arg(path);
            helper
        }
        None => {
            let mut cache = Command::new("apt-cache");
            cache.arg("dumpavail");
            cache
        }
    };
    let output = command.output()?;
    if !output.status.success() || output.stdout.is_empty() {
        return Err("there is no package index: apt-get update fetches one".into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
