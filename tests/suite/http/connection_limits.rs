//! How many connections a client may have, and how long it may keep one without using it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use keyledger_tests::client::http::Client;
use keyledger_tests::client::source::{ELSEWHERE, connect_from};
use keyledger_tests::poll;
use keyledger_tests::processes::server::{Options, Server};

const TIME_MAX: Duration = Duration::from_secs(20);

fn options(arguments: &[&str]) -> Options {
    Options { arguments: arguments.iter().map(|it| (*it).to_owned()).collect(), ..Options::default() }
}

/// The status of a request on a new connection; none when the connection is refused without an answer.
fn status(mut socket: impl Read + Write, client: &Client) -> Option<String> {
    socket.write_all(&client.get("/healthz").encode("close")).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    answer.get(9..12).map(str::to_owned)
}

fn open(client: &Client) -> TcpStream {
    let socket = TcpStream::connect(client.address()).unwrap();
    socket.set_read_timeout(Some(TIME_MAX)).unwrap();
    socket
}

/// How many of the connections the server has refused or closed.
fn closed(sockets: &[TcpStream]) -> usize {
    let is_closed = |socket: &TcpStream| {
        socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        let ended = match (&mut &*socket).read(&mut bytes) {
            Ok(_) => true,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        socket.set_nonblocking(false).unwrap();
        ended
    };
    sockets.iter().filter(|socket| is_closed(socket)).count()
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = server.anonymous().get("/metrics").expect(200).text();
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.trim().parse().unwrap()
}

#[test]
fn one_address_takes_neither_the_connections_of_others_nor_those_of_the_socket() {
    const MAX: usize = 64;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keyledger.sock");
    let at = format!("unix:{}", socket.display());
    // Another address of the same network is a proxy that speaks for many.
    let proxy = "127.0.0.3".parse().unwrap();
    let arguments = ["--max-connections", "64", "--listen", &at, "--trusted-proxy", "127.0.0.3/32"];
    let server = Server::start_with(options(&arguments));
    let client = server.client();
    let idle: Vec<TcpStream> = (0..MAX).map(|_| open(&client)).collect();
    poll::until("all but a quarter to be refused", TIME_MAX, || (closed(&idle) >= MAX * 3 / 4).then_some(()));
    assert_eq!(status(open(&client), &client).as_deref(), Some("503"));
    // Others are served, a proxy beyond the limit of an address.
    let elsewhere = connect_from(ELSEWHERE, client.address()).unwrap();
    assert_eq!(status(elsewhere, &client).as_deref(), Some("200"));
    let of_proxy: Vec<TcpStream> =
        (0..MAX / 2).map(|_| connect_from(proxy, client.address()).unwrap()).collect();
    assert_eq!(status(connect_from(proxy, client.address()).unwrap(), &client).as_deref(), Some("200"));
    // Nor can all connections of the network take those of the socket.
    let rest: Vec<TcpStream> = (0..MAX).map(|_| connect_from(proxy, client.address()).unwrap()).collect();
    let elsewhere = || connect_from(ELSEWHERE, client.address()).unwrap();
    assert_eq!(status(elsewhere(), &client).as_deref(), Some("503"), "no connection is left");
    assert_eq!(status(UnixStream::connect(&socket).unwrap(), &client).as_deref(), Some("200"));
    drop((idle, of_proxy, rest));
    poll::until("the connections to be counted as closed", TIME_MAX, || {
        (status(open(&client), &client)? == "200").then_some(())
    });
    assert!(metric(&server, "keyledger_refusals_total{kind=\"connections_of_address\"}") >= 48.0);
    assert!(metric(&server, "keyledger_refusals_total{kind=\"connections\"}") >= 1.0);
}

#[test]
fn a_connection_is_kept_only_by_using_it() {
    let server = Server::start();
    let client = server.client();
    let (mut silent, mut slow, mut kept) = (open(&client), open(&client), open(&client));
    let begun = Instant::now();
    let request = client.get("/healthz").encode("keep-alive");
    let mut answer = [0; 12];
    kept.write_all(&request).unwrap();
    kept.read_exact(&mut answer).unwrap();
    // A head that arrives byte by byte is never complete.
    let dripping = std::thread::spawn(move || {
        slow.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut bytes = b"GET / HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x'));
        loop {
            let written = slow.write_all(&[*bytes.next().unwrap()]);
            let ended = written.is_err()
                || match slow.read(&mut [0; 512]) {
                    Ok(count) => count == 0,
                    Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
                };
            if ended {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < TIME_MAX, "the server waits for ever");
        }
    });
    assert_eq!(silent.read(&mut [0; 512]).unwrap(), 0, "closed without an answer");
    let silent = begun.elapsed();
    assert!((4..9).contains(&silent.as_secs()), "{silent:?}");
    let slow = dripping.join().unwrap();
    assert!((9..15).contains(&slow.as_secs()), "{slow:?}");
    // A connection that was used may be idle for longer.
    kept.write_all(&request).unwrap();
    let mut text = String::new();
    kept.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let _ = kept.read_to_string(&mut text);
    assert!(text.contains("HTTP/1.1 200"), "{text}");
}
