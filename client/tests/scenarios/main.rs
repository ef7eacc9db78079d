//! Known failures of others, each as a test of the same situation here.
//!
//! | test file | what failed where |
//! |---|---|
//! | [`lost_answer`] | etcd: a put whose answer was lost is tried again, and done twice |
//! | [`server_restart`] | NATS clients: a watcher silently stops when the server restarts |
//! | [`slow_watcher`] | etcd: events are dropped for a watcher that does not keep up |
//! | [`invalidation`] | ZEO, Redis tracking: an invalidation is lost, or overtaken by data |
//! | [`nested_edit`] | multiprocessing managers: edits of parts of one value are lost |
//! | `store/tests/leases.rs`, as only there a test can set the clock | databend: time runs backwards under leases |

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    reason = "a test that cannot go on stops; what it shares with the object tests has more"
)]

#[path = "../objects/children.rs"]
mod children;
#[path = "../objects/held_up.rs"]
mod held_up;
mod invalidation;
mod lost_answer;
mod nested_edit;
#[path = "../objects/peer.rs"]
mod peer;
mod server_restart;
mod slow_watcher;
#[path = "../objects/told.rs"]
mod told;

use std::path::Path;
use std::time::Duration;

use objsync::{Dict, GrantRequest, Options, ReplicaMode, Target};
use objsync_tests::proxy::Proxy;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// A store that this process owns, and a network to it.
fn owner_behind_a_network(path: &Path, seed: u64) -> (Dict, Proxy) {
    let owner = Dict::open(path, Options::default()).unwrap();
    let address = owner.status().address.unwrap().parse().unwrap();
    (owner, Proxy::start(address, seed).unwrap())
}

/// A client that comes through a network, by a link.
fn client(owner: &Dict, proxy: &Proxy, replica: ReplicaMode) -> Dict {
    let request = GrantRequest {
        hosts: vec![proxy.address().to_string()],
        ..GrantRequest::default()
    };
    let link = owner.grant(request).wait().unwrap();
    let options = Options {
        replica,
        timeout: LONG,
        ..Options::default()
    };
    Dict::connect(&Target::Link(link), options).unwrap()
}

fn number(dict: &Dict, name: &str) -> i64 {
    let payload = dict.get(&peer::k(name)).unwrap();
    payload.map_or(0, |payload| objsync::value::from_payload(&payload).unwrap())
}
