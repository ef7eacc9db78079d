//! `objsync link`: make a link that lets somebody else in.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use objsync::GrantRequest;
use serde_json::json;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::output::Output;

/// Arguments of `link`.
#[derive(Debug, Args)]
pub(crate) struct Link {
    /// Reading only
    #[arg(long)]
    read_only: bool,

    /// For a follower, which keeps a copy of the whole store: objsync serve --follow LINK
    #[arg(long)]
    follow: bool,

    /// Where the other side finds the server; may be repeated [default: where it listens]
    #[arg(long = "host", value_name = "HOST:PORT")]
    hosts: Vec<String>,

    /// A name for whom it is, shown by `objsync links`
    #[arg(long, value_name = "NAME", default_value = "")]
    label: String,

    /// How long it is good for, such as 30m, 12h or 7d [default: until unlinked]
    #[arg(long, value_name = "TIME", value_parser = duration_ms)]
    expires: Option<u64>,
}

impl Link {
    /// Prints the link: whoever has it has its rights. `--namespace` limits it to one dictionary.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        if self.follow && connection.namespace.is_some() {
            let text = "a follower copies the whole store: leave --namespace out";
            return Err(Failure::Usage(text.into()));
        }
        let dict = connection.open()?;
        let link = dict.grant(GrantRequest {
            namespace: connection.namespace.clone(),
            readonly: self.read_only,
            follow: self.follow,
            expires_ms: self.expires.map(|wait| now_ms().saturating_add(wait)),
            label: self.label.clone(),
            hosts: self.hosts.clone(),
        });
        let link = link.wait()?;
        if output.json() {
            output.line(&json!({ "link": link.to_string() }).to_string())?;
        } else {
            output.line(&link.to_string())?;
            output.note("whoever has this link may use it: pass it on like a password");
            if self.follow {
                output.note("it leads to all of the store, and lets its holder make links too");
            }
        }
        dict.close()?;
        Ok(Answer::Yes)
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A count and a unit: s, m, h or d.
fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || String::from("a count and s, m, h or d, such as 12h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let step_ms = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count
        .checked_mul(step_ms)
        .filter(|wait| *wait > 0)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_a_count_and_a_unit() {
        assert_eq!(duration_ms("30m"), Ok(1_800_000));
        assert_eq!(duration_ms("7d"), Ok(604_800_000));
        for text in [
            "",
            "d",
            "7",
            "0s",
            "-1h",
            "1y",
            "99999999999999999999d",
            "7\u{20ac}",
        ] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }
}
