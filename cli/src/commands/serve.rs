//! `objsync serve`: own a store and serve it at an address until stopped; with `--follow`, a copy of
//! another one.
//!
//! The first SIGTERM or SIGINT closes the store (what was acknowledged is on disk, peers are told,
//! the log gets its end mark); the second exits at once, which loses nothing acknowledged either.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use objsync::{Dict, Durability, ErrorKind, Follower, Link, Options, home};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::args::Connection;
use crate::commands::backup::refuse_namespace;
use crate::exit::{Answer, Failure};
use crate::output::{Colour, Output};
use crate::signals::{Signals, runtime};

/// What a shell calls an end by Ctrl-C.
const EXIT_AT_ONCE: i32 = 130;
/// How often it is looked whether a signal came while there is nothing to serve yet.
const TICK: Duration = Duration::from_millis(500);

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address to listen on; loopback lets only this machine in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,

    /// The UDP port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,

    /// The directory of the store [default: the one last served at that port]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,

    /// Keep a copy of the store that this link leads to, made by `objsync link --follow`, and serve
    /// that; writes go to the source
    #[arg(
        long,
        value_name = "LINK",
        env = "OBJSYNC_FOLLOW",
        hide_env_values = true
    )]
    follow: Option<String>,

    /// How safe writes are that do not say it themselves: sync or buffered [default: sync]
    #[arg(long, value_name = "LEVEL")]
    durability: Option<Durability>,

    /// What the store may take in memory for recent changes and caches together, such as 512MiB
    #[arg(long, value_name = "SIZE", env = "OBJSYNC_MEMORY", default_value = "256MiB", value_parser = objsync::parse_memory)]
    memory: u64,

    /// Use a directory on a network file system, where locks may not hold
    #[arg(long)]
    force_network_fs: bool,
}

impl Serve {
    /// Serves until a signal comes.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        if connection.to.is_some() && std::env::var_os("OBJSYNC_TO").is_none() {
            let text = "serve takes --host, --port and --data-dir, not --to";
            return Err(Failure::Usage(text.into()));
        }
        if self.follow.is_some() {
            refuse_namespace(connection, "serve --follow copies all of a store")?;
            if self.durability.is_some() {
                let text =
                    "serve --follow takes no --durability: its source says how safe writes are";
                return Err(Failure::Usage(text.into()));
            }
        }
        log_to_stderr();
        let runtime = runtime()?;
        // Before the store is opened: a signal from then on closes it properly.
        let mut signals = runtime.block_on(async { Signals::new() })?;
        let directory = match &self.data_dir {
            Some(directory) => directory.clone(),
            None => home::directory_of_port(self.port)?,
        };
        if let Some(link) = &self.follow {
            // Read here: an error of the command line would repeat the secret.
            let link = &Link::parse(link)?;
            let (runtime, signals) = (&runtime, &mut signals);
            return self.follow(connection, link, &directory, (runtime, signals, output));
        }
        let dict = self.open(connection, &directory)?;
        self.announce(&dict, output)?;
        runtime.block_on(signals.next());
        output.note("closing; once more to exit at once");
        runtime.block_on(close(move || dict.close(), &mut signals))?;
        Ok(Answer::Yes)
    }

    /// Keeps a copy and serves it until a signal comes.
    fn follow(
        &self,
        connection: &Connection,
        link: &Link,
        directory: &Path,
        (runtime, signals, output): (&Runtime, &mut Signals, &Output),
    ) -> Result<Answer, Failure> {
        let options = self.options(connection);
        let address = SocketAddr::new(self.host, self.port);
        let started = Follower::start(directory, address, link, &options);
        let follower = Arc::new(started.map_err(|error| self.explain(error, directory))?);
        let mut is_told = false;
        let served = loop {
            let waiting = Arc::clone(&follower);
            let mut waiting = runtime.spawn_blocking(move || waiting.wait_until_served(TICK));
            let served = runtime.block_on(async {
                tokio::select! {
                    served = &mut waiting => Some(served),
                    () = signals.next() => None,
                }
            });
            match served {
                Some(Ok(Ok(address))) => break Some(address),
                Some(Ok(Err(error))) if error.kind() == ErrorKind::Unavailable => {
                    if !std::mem::replace(&mut is_told, true) {
                        output.note(&error.to_string());
                    }
                }
                Some(Ok(Err(error))) => return Err(error.into()),
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                None => break None,
            }
        };
        if let Some(address) = served {
            self.tell((&address.to_string(), directory), output)?;
            let ending = Arc::clone(&follower);
            let mut ending = runtime.spawn_blocking(move || ending.wait_until_ended());
            let ended = runtime.block_on(async {
                tokio::select! {
                    ended = &mut ending => Some(ended),
                    () = signals.next() => None,
                }
            });
            match ended {
                Some(Ok(ended)) => ended?,
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                None => {}
            }
        }
        output.note("closing; once more to exit at once");
        runtime.block_on(close(move || follower.close(), signals))?;
        Ok(Answer::Yes)
    }

    fn options(&self, connection: &Connection) -> Options {
        Options {
            namespace: connection
                .namespace
                .clone()
                .unwrap_or(Options::default().namespace),
            serve_durability: self.durability.unwrap_or(Durability::Sync),
            force_network_fs: self.force_network_fs,
            memory_bytes: Some(self.memory),
            timeout: connection.timeout,
            ..Options::default()
        }
    }

    fn open(&self, connection: &Connection, directory: &Path) -> Result<Dict, Failure> {
        let address = SocketAddr::new(self.host, self.port);
        Dict::serve_at(directory, address, self.options(connection))
            .map_err(|error| self.explain(error, directory))
    }

    /// The one served at this port already, or its port held by somebody else: say what to do.
    fn explain(&self, error: objsync::ObjectError, directory: &Path) -> Failure {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Denied => {
                let port = self.port.checked_add(1).unwrap_or(8080);
                let hint = format!(
                    "if {} is served already, use it (objsync status --to {}); to serve another \
                     store beside it: objsync serve --port {port} --data-dir DIRECTORY",
                    directory.display(),
                    directory.display(),
                );
                Failure::with_hint(error, hint)
            }
            _ => error.into(),
        }
    }

    fn announce(&self, dict: &Dict, output: &Output) -> Result<(), Failure> {
        let status = dict.status();
        let address = status
            .address
            .unwrap_or_else(|| SocketAddr::new(self.host, self.port).to_string());
        let directory = status.directory.unwrap_or_default();
        self.tell((&address, &directory), output)
    }

    /// Says where the store is served, and what to do next.
    fn tell(&self, (address, directory): (&str, &Path), output: &Output) -> Result<(), Failure> {
        if output.json() {
            let line = json!({
                "address": address,
                "directory": directory,
                "pid": std::process::id(),
            });
            return output.line(&line.to_string());
        }
        let at = output.painted(address, Colour::Cyan);
        output.line(&format!("serving {} at {at}\n", directory.display()))?;
        output.line(&self.next_steps(address))
    }

    /// What to type in a second terminal, with the programs that lie beside this one.
    fn next_steps(&self, address: &str) -> String {
        let program = std::env::current_exe().unwrap_or_default();
        let folder = program.parent().map(Path::to_path_buf).unwrap_or_default();
        let in_venv = folder.join("python").exists();
        let (objsync, python) = if in_venv {
            (
                program.display().to_string(),
                folder.join("python").display().to_string(),
            )
        } else {
            (String::from("objsync"), String::from("python3"))
        };
        let to = if address == crate::target::DEFAULT {
            String::new()
        } else {
            format!(" --to {address}")
        };
        format!(
            "In another terminal:\n\
             \n  {objsync}{to} set greeting hello\
             \n  {objsync}{to} watch\
             \n  {python} -c 'from objsync import NetworkObject; \
             print(dict(NetworkObject(\"{address}\")))'\n\
             \nSomebody else, or another machine: {objsync}{to} link\
             \nCtrl-C stops; what was acknowledged stays on disk."
        )
    }
}

/// Closes, unless a second signal comes first.
async fn close(
    closing: impl FnOnce() -> objsync::Result<()> + Send + 'static,
    signals: &mut Signals,
) -> objsync::Result<()> {
    let mut closing = tokio::task::spawn_blocking(closing);
    tokio::select! {
        closed = &mut closing => match closed {
            Ok(closed) => closed,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        },
        () = signals.next() => std::process::exit(EXIT_AT_ONCE),
    }
}

/// Refused peers, damage and the like go to standard error; `OBJSYNC_LOG` says how much.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("OBJSYNC_LOG")
        .with_default_directive(tracing::Level::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
