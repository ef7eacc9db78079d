//! The program `objsync`: serve, read, write and watch shared dictionaries.
//!
//! Trail: [`main`] -> [`args`] (what was asked) -> one file of [`commands`] -> the crate `objsync`.
//! [`target`] says which dictionary is meant, [`moment`] as of when, [`json`] how values are written, [`output`] how
//! answers look, [`exit`] what a failure is called and what to do about it.

mod args;
mod commands;
mod exit;
mod input;
mod json;
mod moment;
mod output;
mod progress;
mod signals;
mod target;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let output = output::Output::new(cli.json);
    let ran = signals::survive_file_limit().and_then(|()| commands::run(&cli, &output));
    match ran {
        Ok(answer) => answer.into(),
        Err(failure) => failure.report(&output),
    }
}
