//! One file for each command.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod del;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod link;
pub(crate) mod links;
pub(crate) mod lock;
pub(crate) mod ls;
pub(crate) mod promote;
mod raw;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod set;
pub(crate) mod status;
pub(crate) mod unlink;
pub(crate) mod watch;

use crate::args::{Cli, Command};
use crate::exit::{Answer, Failure};
use crate::output::Output;

/// Does what was asked.
pub(crate) fn run(cli: &Cli, output: &Output) -> Result<Answer, Failure> {
    let connection = &cli.connection;
    match &cli.command {
        Command::Serve(serve) => serve.run(connection, output),
        Command::Get(get) => get.run(connection, output),
        Command::Set(set) => set.run(connection, output),
        Command::Del(del) => del.run(connection, output),
        Command::Ls(ls) => ls.run(connection, output),
        Command::History(history) => history.run(connection, output),
        Command::Lock(lock) => lock.run(connection, output),
        Command::Watch(watch) => watch.run(connection, output),
        Command::Import(import) => import.run(connection, output),
        Command::Export(export) => export.run(connection, output),
        Command::Status(status) => status.run(connection, output),
        Command::Link(link) => link.run(connection, output),
        Command::Links(links) => links.run(connection, output),
        Command::Unlink(unlink) => unlink.run(connection, output),
        Command::Promote(promote) => promote.run(connection, output),
        Command::Check(check) => check.run(connection, output),
        Command::Repair(repair) => repair.run(connection, output),
        Command::Backup(backup) => backup.run(connection, output),
        Command::Restore(restore) => restore.run(connection, output),
        Command::Bench(bench) => bench.run(connection, output),
        Command::Completion(completion) => completion.run(output),
    }
}
