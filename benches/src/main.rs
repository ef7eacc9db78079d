//! The figures objsync is measured by, from Rust: `objsync-benches [--quick]` prints one JSON line a
//! figure. `benches/run` runs it, and the Python figures, and makes the table.
//!
//! [`local`] one process and its own store; [`network`] two processes and a server; [`memory`] what
//! a server and a full copy take; [`resume`] coming back, joining and following; [`floor`] what a
//! durable write costs beyond the disk. On demand: [`compressed`], Debian's package index with and
//! without compression, [`growth`], what a store of many keys takes, and
//! [`failover`], how soon others carry on when an owner is killed. Each figure is a sample of single
//! calls, or a rate over many.

mod compressed;
mod data;
mod failover;
mod figure;
mod floor;
mod growth;
mod local;
mod memory;
mod network;
mod resume;
mod server;

use std::path::PathBuf;

use clap::Parser;

/// What can go wrong while measuring: it is said and the run ends.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Measures objsync from Rust.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A tenth of the work: to see that it runs, not to quote
    #[arg(long)]
    quick: bool,

    /// Measure this part only
    #[arg(long, value_enum)]
    part: Option<Part>,

    /// The program `objsync` that serves
    #[arg(long, value_name = "PROGRAM", default_value = "objsync")]
    program: PathBuf,

    /// Where stores are made [default: the temporary folder]
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,

    /// How many keys `growth` fills a store with
    #[arg(long, value_name = "COUNT", default_value_t = 10_000_000)]
    keys: u32,

    /// Runs as a process of `growth`, in that directory
    #[arg(long, value_enum, hide = true, requires = "directory")]
    child: Option<growth::child::Role>,

    /// Runs as the second process of `seen`: watch at this address and print the delays
    #[arg(long, value_name = "ADDRESS", hide = true, requires = "count")]
    watch: Option<String>,

    /// Runs as a process of `resume`, at the address to watch
    #[arg(long, value_enum, hide = true, requires = "watch")]
    follow: Option<resume::Role>,

    /// How many changes to watch
    #[arg(long, hide = true)]
    count: Option<u32>,

    /// Runs as the second process of `memory`: hold a full copy of what is at this address
    #[arg(long, value_name = "ADDRESS", hide = true)]
    hold: Option<String>,

    /// Runs as a process of `failover`: write to what is at this address
    #[arg(long, value_name = "ADDRESS", hide = true)]
    write: Option<String>,
}

/// What is measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Local,
    Network,
    Memory,
    Resume,
    Floor,
    /// Not measured unless asked for: it wants Debian's package index
    Compressed,
    /// Not measured unless asked for: it takes minutes and gigabytes
    Growth,
    /// Not measured unless asked for: it takes 65 processes
    Failover,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(address) = &arguments.watch {
        let count = arguments.count.unwrap_or_default();
        return match arguments.follow {
            Some(role) => resume::follow(role, address, count),
            None => network::watch(address, count),
        };
    }
    if let Some(address) = &arguments.hold {
        return memory::hold(address);
    }
    if let Some(address) = &arguments.write {
        return failover::child::run(address);
    }
    if let (Some(role), Some(directory)) = (arguments.child, &arguments.directory) {
        return growth::child::run(role, directory, arguments.keys);
    }
    let folder = match &arguments.directory {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let scale = if arguments.quick { 10 } else { 1 };
    let (folder, program) = (folder.path(), &*arguments.program);
    let all = [
        Part::Local,
        Part::Network,
        Part::Memory,
        Part::Resume,
        Part::Floor,
    ];
    for part in arguments.part.map_or(all.to_vec(), |part| vec![part]) {
        match part {
            Part::Local => local::measure(folder, scale)?,
            Part::Network => network::measure(folder, program, scale)?,
            Part::Memory => memory::measure(folder, program, scale)?,
            Part::Resume => resume::measure(folder, program, scale)?,
            Part::Floor => floor::measure(folder, program, scale)?,
            Part::Compressed => compressed::measure(folder, scale)?,
            Part::Growth => growth::measure(folder, arguments.keys)?,
            Part::Failover => failover::measure(folder, scale)?,
        }
    }
    Ok(())
}
