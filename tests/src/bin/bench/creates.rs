//! Durable key creations over HTTP, compared with single-row inserts into PostgreSQL and SQLite, on one disk
//! and all cores.

use std::fs;
use std::path::Path;

use keyledger_tests::client::http::Client;
use keyledger_tests::processes::server::{Options, Server};

use crate::Settings;
use crate::neighbours::{Insert, Postgres, sqlite_inserts};
use crate::ratio::{Figures, Report, cpu_seconds};
use keyledger_tests::client::load::{Load, Protocol};
use keyledger_tests::data::keys::{CONNECTIONS, create_requests};

/// Rows per round that SQLite inserts with one client, and with many.
const SQLITE_ROWS: [usize; 2] = [8_000, 3_200];

/// Runs the comparison and adds it to the report.
pub(crate) fn measure(settings: &Settings, report: &mut Report) {
    let place = settings.place();
    let socket = place.join("keyledger.sock");
    let server = Server::start_with(Options {
        place: Some(place.into()),
        arguments: vec!["--listen".into(), format!("unix:{}", socket.display())],
        ..Options::default()
    });
    let client = server.client();
    let requests = create_requests(&client);
    let mut load = Load::connect(client.address(), Protocol::Http, CONNECTIONS);
    let mut near = Load::connect_unix(&socket, Protocol::Http, CONNECTIONS);
    let postgres = Postgres::start(place);
    let (mut own, mut theirs) = (Figures::default(), Figures::default());
    let (mut own_near, mut theirs_near) = (Figures::default(), Figures::default());
    let (mut keys, mut lite, mut lite_alone) = (Figures::default(), Figures::default(), Figures::default());
    let mut next = requests.iter().cycle();
    let begin = (cpu_seconds(server.pid()), head(&client));
    for round in 0..=settings.rounds {
        let check = |answer: &[u8]| {
            assert!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(answer))
        };
        let length = settings.round;
        let created = load.run(length, || next.next().unwrap(), check);
        let inserted = postgres.inserts(Insert::Row, CONNECTIONS, length);
        let created_near = near.run(length, || next.next().unwrap(), check);
        let inserted_near = postgres.near_inserts(Insert::Row, CONNECTIONS, length);
        let inserted_keys = postgres.inserts(Insert::Key, CONNECTIONS, length);
        let by_sqlite = sqlite_inserts(place, CONNECTIONS, SQLITE_ROWS[1]);
        let by_sqlite_alone = sqlite_inserts(place, 1, SQLITE_ROWS[0]);
        eprintln!(
            "create {created:.0}/s, PostgreSQL {inserted:.0}/s, over Unix sockets {created_near:.0}/s and \
             {inserted_near:.0}/s, PostgreSQL with tables of keys {inserted_keys:.0}/s, SQLite \
             {by_sqlite:.0}/s, with one client {by_sqlite_alone:.0}/s"
        );
        if round > 0 {
            own.0.push(created);
            theirs.0.push(inserted);
            own_near.0.push(created_near);
            theirs_near.0.push(inserted_near);
            keys.0.push(inserted_keys);
            lite.0.push(by_sqlite);
            lite_alone.0.push(by_sqlite_alone);
        }
    }
    let spent = (cpu_seconds(server.pid()) - begin.0) * 1e6 / (head(&client) - begin.1) as f64;
    report.note(format!("total processor time per create: {spent:.1} us"));
    report.compare("durable create / PostgreSQL insert, 64 clients each", &own, &theirs, 2.0);
    report.compare("... both over Unix sockets", &own_near, &theirs_near, 2.0);
    report.show("... / PostgreSQL insert into indexed tables of keys", &own, &keys);
    report.compare("durable create / SQLite insert, WAL FULL, 64 clients each", &own, &lite, 4.0);
    report.show("... / SQLite insert by one client alone", &own, &lite_alone);
    let events = head(&client);
    let bytes = size_of(&server.data());
    report.note(format!(
        "on disk: {events} events, {} bytes each in the log, {} with all projections",
        fs::metadata(server.data().join("events.redb")).map_or(0, |it| it.len()) / events.max(1),
        bytes / events.max(1)
    ));
}

/// The position of the last event.
fn head(client: &Client) -> u64 {
    client.get("/v1/events?limit=1").expect(200).position()
}

fn size_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                size_of(&entry.path())
            } else {
                entry.metadata().map_or(0, |it| it.len())
            }
        })
        .sum()
}
