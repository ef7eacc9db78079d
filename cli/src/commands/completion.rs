//! `objsync completion SHELL`: the script that completes commands and options in a shell.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{Answer, Failure};
use crate::output::Output;

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// For which shell, such as: objsync completion bash > ~/.local/share/bash-completion/completions/objsync
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completion {
    /// Prints the script.
    pub(crate) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "objsync", &mut script);
        let mut out = output.lines();
        out.write_all(&script)
            .and_then(|()| out.flush())
            .map_err(Failure::stdout)?;
        Ok(Answer::Yes)
    }
}
