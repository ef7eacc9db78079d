//! Typed values, and changes as they happen.
//!
//! `watcher [ADDRESS] [COUNT]`: prints COUNT changes of users, then ends.

use objsync::NetworkObject;
use serde::{Deserialize, Serialize};

/// A Python program writes it as a dict: `d["user:7"] = {"name": "Ada", "age": 36}`.
#[derive(Debug, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
}

#[expect(clippy::print_stdout, reason = "this program is for people")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| String::from("localhost:8080"));
    let count: usize = arguments
        .next()
        .map_or(Ok(usize::MAX), |text| text.parse())?;
    let d = NetworkObject::connect(&address)?;
    let changes = d.watch_prefix("user:", None)?;
    println!("watching {address}");
    for change in changes.take(count) {
        let change = change?;
        let key = change.decode_key()?;
        match change.decode::<User>()? {
            Some(user) => println!("{key} is {}, {} years old", user.name, user.age),
            None => println!("{key} is gone"),
        }
    }
    d.close()?;
    Ok(())
}
