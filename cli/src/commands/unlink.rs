//! `objsync unlink WHICH`: take a link back.

use clap::Args;
use objsync::Grant;
use serde_json::json;

use crate::args::Connection;
use crate::exit::{Answer, Failure};
use crate::output::Output;

/// Arguments of `unlink`.
#[derive(Debug, Args)]
pub(crate) struct Unlink {
    /// The start of its key as `objsync links` shows it (8 characters or more), or its label
    #[arg(value_name = "WHICH")]
    which: String,
}

impl Unlink {
    /// Revokes the one grant meant and cuts its connections; none is no, several are refused.
    pub(crate) fn run(&self, connection: &Connection, output: &Output) -> Result<Answer, Failure> {
        let dict = connection.open()?;
        let grants = dict.grants().wait()?;
        let meant: Vec<&Grant> = grants
            .iter()
            .filter(|grant| is_meant(grant, &self.which))
            .collect();
        let grant = match meant[..] {
            [grant] => grant,
            [] => {
                output.note("no such link; objsync links lists them");
                return Ok(Answer::No);
            }
            _ => {
                let text = format!(
                    "{:?} means {} links: give more of the key",
                    self.which,
                    meant.len()
                );
                return Err(Failure::Usage(text));
            }
        };
        dict.revoke(grant.peer).wait()?;
        if output.json() {
            output.line(&json!({ "revoked": grant.peer.to_string() }).to_string())?;
        }
        dict.close()?;
        Ok(Answer::Yes)
    }
}

fn is_meant(grant: &Grant, which: &str) -> bool {
    let by_key = which.len() >= 8 && grant.peer.to_string().starts_with(which);
    by_key || (!which.is_empty() && grant.label == which)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_is_meant_by_the_start_of_its_key_or_its_label() {
        let grant = Grant {
            peer: objsync::PeerKey([0xab; 32]),
            scope: "*".into(),
            rights: vec!["read".into()],
            expires_ms: None,
            label: "laptop".into(),
        };
        assert!(is_meant(&grant, "abababab"));
        assert!(is_meant(&grant, "laptop"));
        for which in ["", "ab", "abababac", "lap"] {
            assert!(!is_meant(&grant, which), "{which:?}");
        }
    }
}
