//! Follows the events of a running service and resumes where it left off.
//!
//! Run it with `KEYLEDGER_TOKEN=klroot_… cargo run -p keyledger-examples --bin follow_events -- URL FILE
//! [COUNT]`. FILE keeps the position of the last event that was handled. With COUNT the program ends after
//! that many events.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

/// Pause before a new connection, so that a service that is down is not flooded with requests.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: KEYLEDGER_TOKEN=klroot_... follow_events URL FILE [COUNT]";
    let mut arguments = std::env::args().skip(1);
    let (url, file) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let count: usize = arguments.next().map_or(Ok(usize::MAX), |text| text.parse())?;
    let token = std::env::var("KEYLEDGER_TOKEN").map_err(|_| usage)?;
    // ureq leaves the choice of a TLS library for https URLs to the program.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let agent = Agent::new_with_defaults();

    // Positions have no gaps and start at 1, so 0 means "from the beginning".
    let mut position = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let mut left = count;
    while left > 0 {
        if let Err(error) = follow(&agent, &url, &token, &mut position, &file, &mut left) {
            match error.downcast_ref() {
                // Another attempt would fail too: the token is wrong or must not read events.
                Some(ureq::Error::StatusCode(400..=499)) => return Err(error),
                _ => eprintln!("{error}; reconnecting after position {position}"),
            }
            thread::sleep(RECONNECT_DELAY);
        }
    }
    Ok(())
}

/// Reads one response until it ends, or until no event is `left` to read.
fn follow(
    agent: &Agent,
    url: &str,
    token: &str,
    position: &mut u64,
    file: &str,
    left: &mut usize,
) -> Result<(), Box<dyn Error>> {
    // The id of a server-sent event is its position in the log. The service continues right after the id that
    // a client sends back in `Last-Event-ID`, so no event is lost or repeated across connections.
    let response = agent
        .get(format!("{url}/v1/events"))
        .header("authorization", format!("Bearer {token}"))
        .header("accept", "text/event-stream")
        .header("last-event-id", position.to_string())
        .call()?;
    let (mut id, mut data) = (None, String::new());
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line?;
        if let Some(text) = line.strip_prefix("id:") {
            id = text.trim().parse().ok();
        } else if let Some(text) = line.strip_prefix("data:") {
            data.push_str(text.trim_start());
        } else if line.is_empty() && !data.is_empty() {
            let event: Value = serde_json::from_str(&data)?;
            let id = id.take().ok_or("the event has no id")?;
            println!("{id} {} {}", text(&event, "/type"), text(&event, "/stream/id"));
            // Saved after the event is handled. A crash in between repeats one event and loses none.
            *position = id;
            fs::write(file, position.to_string())?;
            data.clear();
            *left -= 1;
            if *left == 0 {
                return Ok(());
            }
        }
        // Other lines are comments, which keep an idle connection open.
    }
    Err("the service closed the stream".into())
}

/// The text at a JSON pointer; empty if there is none.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
