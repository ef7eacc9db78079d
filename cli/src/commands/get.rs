//! `objsync get KEY`: print the value under a key.

use clap::Args;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::input::KeyForm;
use crate::json;
use crate::moment::Moment;
use crate::output::Output;

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key, as text
    #[arg(value_name = "KEY")]
    key: String,

    #[command(flatten)]
    moment: Moment,

    #[command(flatten)]
    form: KeyForm,
}

impl Get {
    /// Prints text bare and all else as JSON; with `--json`, text is JSON too.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let key = self.form.read(&self.key)?;
        let view = self.moment.view(connection.open_to_read()?)?;
        let Some(payload) = view.get(&key)? else {
            output.note(&format!("no key {}", self.key));
            return Ok(Answer::No);
        };
        output.line(&json::shown_value(&payload, output.json())?)?;
        Ok(Answer::Yes)
    }
}
