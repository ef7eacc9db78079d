//! `objsync bench`: measure a store for a few seconds: a new one, or the one that `--to` names.

use std::time::{Duration, Instant};

use clap::Args;
use objsync::key::Key;
use objsync::{Bytes, Dict, KeyRange, Options};
use serde_json::{Map, Value as Json, json};
use tempfile::TempDir;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::input;
use crate::output::{self, Output};
use crate::target::IfMissing;

/// What the keys that are made, and removed at the end, start with.
const PREFIX: &str = "objsync-bench:";

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Keys to write and read
    #[arg(long, value_name = "COUNT", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,

    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    value_bytes: u32,
}

/// One figure: microseconds a call, half of them and all but one in a hundred.
struct Figure {
    name: &'static str,
    p50: Duration,
    p99: Duration,
}

impl Bench {
    /// Prints the figures. Without `--to` the store is new, and gone afterwards.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let folder;
        let (dict, place) = if connection.to.is_some() {
            let dict = connection.open_with(IfMissing::Create, |options| {
                options.replica = Options::default().replica;
            })?;
            (dict, connection.shown()?)
        } else {
            folder = temporary_folder()?;
            (
                Dict::open(folder.path(), Options::default())?,
                String::from("a new store"),
            )
        };
        let figures = self.measure(&dict);
        let removed = dict.delete_range(input::prefix(PREFIX)).wait();
        let figures = figures?;
        removed?;
        dict.close()?;
        self.print(&figures, &place, output)?;
        Ok(Answer::Yes)
    }

    fn measure(&self, dict: &Dict) -> Result<Vec<Figure>, Failure> {
        let keys = (0..self.keys)
            .map(|number| input::encode(&Key::Str(format!("{PREFIX}{number:08}"))))
            .collect::<Result<Vec<_>, _>>()?;
        let text = "x".repeat(self.value_bytes as usize);
        let payload = input::text_payload(&text)?;
        let few = &keys[..keys.len().min(300)];
        let set = |key: &Bytes| dict.set(key, payload.clone()).wait().map(drop);
        let mut figures = vec![timed("set", few, set)?];
        let start = Instant::now();
        let mut pipeline = dict.pipeline();
        for key in &keys {
            pipeline.set(key, payload.clone())?;
        }
        pipeline.finish()?;
        let each = start.elapsed() / self.keys;
        figures.push(Figure {
            name: "set, many in flight",
            p50: each,
            p99: each,
        });
        figures.push(timed("get", &keys, |key| dict.get(key).map(drop))?);
        let start = Instant::now();
        let count = dict.scan(scanned(), false)?.count().max(1);
        let each = start.elapsed() / u32::try_from(count).unwrap_or(u32::MAX);
        figures.push(Figure {
            name: "scan",
            p50: each,
            p99: each,
        });
        Ok(figures)
    }

    fn print(&self, figures: &[Figure], place: &str, output: &Output) -> Result<(), Failure> {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        if output.json() {
            let figures: Map<String, Json> = figures
                .iter()
                .map(|figure| {
                    let name = figure.name.replace(", ", "_").replace(' ', "_");
                    let times = json!({
                        "p50_us": micros(figure.p50),
                        "p99_us": micros(figure.p99),
                    });
                    (name, times)
                })
                .collect();
            let line = json!({
                "place": place,
                "keys": self.keys,
                "value_bytes": self.value_bytes,
                "figures": figures,
            });
            return output.line(&line.to_string());
        }
        let about = format!(
            "{place}: {} keys, values of {} bytes",
            self.keys, self.value_bytes
        );
        output.line(&about)?;
        let rows: Vec<(&str, String)> = figures
            .iter()
            .map(|figure| {
                let (p50, p99) = (micros(figure.p50), micros(figure.p99));
                (
                    figure.name,
                    format!("{p50:>9.2} us   99 of 100 within {p99:.2} us"),
                )
            })
            .collect();
        output.line(&output::table(&rows))
    }
}

fn scanned() -> KeyRange {
    input::prefix(PREFIX)
}

fn timed(
    name: &'static str,
    keys: &[Bytes],
    call: impl Fn(&Bytes) -> objsync::Result<()>,
) -> Result<Figure, Failure> {
    let mut times = Vec::with_capacity(keys.len());
    for key in keys {
        let start = Instant::now();
        call(key)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |hundredths: usize| times[(times.len() * hundredths / 100).min(times.len() - 1)];
    Ok(Figure {
        name,
        p50: at(50),
        p99: at(99),
    })
}

fn temporary_folder() -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("objsync-bench-")
        .tempdir()
        .map_err(|source| Failure::Io {
            op: "create a folder in",
            path: std::env::temp_dir(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_one_call_are_that_call() {
        let figure = timed("x", &[Bytes::new()], |_| Ok(())).unwrap();
        assert_eq!(figure.p50, figure.p99);
    }
}
