//! Processes that count together: no number is lost, whoever serves.
//!
//! `counter [ADDRESS] [TIMES]`: run it in two terminals at once.

use objsync::NetworkObject;

#[expect(clippy::print_stdout, reason = "this program is for people")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| String::from("localhost:8080"));
    let times: u32 = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let d = NetworkObject::connect(&address)?;
    let first = d.incr("counter", 1)?;
    let mut last = first;
    for _ in 1..times {
        last = d.incr("counter", 1)?;
    }
    let role = d.status().role;
    println!("from {first} to {last}, as {role}");
    d.close()?;
    Ok(())
}
