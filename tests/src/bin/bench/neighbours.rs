//! The servers that could be used instead: real PostgreSQL, Redis and SQLite, each with its own data
//! directory.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keyledger_tests::poll;
use keyledger_tests::processes::server::free_address;

/// A Redis without persistence.
pub(crate) struct Redis {
    child: Child,
    /// The listening address.
    pub(crate) address: SocketAddr,
}

impl Redis {
    /// Starts Redis on a core.
    pub(crate) fn start(core: &str, place: &Path) -> Self {
        let address = free_address();
        let child = Command::new("taskset")
            .args(["-c", core, "redis-server", "--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(place)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is not installed: run tests/tools-install.sh bench");
        poll::until("Redis to listen", Duration::from_secs(10), || TcpStream::connect(address).ok());
        Self { child, address }
    }

    /// Stores a value of `length` bytes under each key.
    pub(crate) fn fill(&self, keys: &[String], length: usize) {
        let mut socket = TcpStream::connect(self.address).unwrap();
        let value = "x".repeat(length);
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let keys: Vec<String> = keys.iter().cloned().chain([SAMPLE.to_owned()]).collect();
        for chunk in keys.chunks(100) {
            let commands: String = chunk.iter().map(|key| command(&["SET", key, &value])).collect();
            socket.write_all(commands.as_bytes()).unwrap();
            for _ in chunk {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                assert_eq!(line, "+OK\r\n");
            }
        }
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lookups of an existing key per second by redis-benchmark, on a core, over `connections`.
    pub(crate) fn gets(&self, core: &str, connections: usize, time: Duration) -> f64 {
        // It accepts a number of requests, not a duration.
        let run = |requests: usize| {
            let output = Command::new("taskset")
                .args([
                    "-c",
                    core,
                    "redis-benchmark",
                    "-h",
                    "127.0.0.1",
                    "-p",
                    &self.address.port().to_string(),
                ])
                .args(["-c", &connections.to_string(), "-n", &requests.to_string(), "--csv", "GET", SAMPLE])
                .output()
                .expect("redis-benchmark is not installed: run tests/tools-install.sh bench");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let fields = text.lines().last().map(|line| line.split("\",\"").collect::<Vec<_>>());
            let rate = fields.and_then(|fields| fields.get(1).and_then(|field| field.parse().ok()));
            rate.unwrap_or_else(|| panic!("redis-benchmark: {text}"))
        };
        let first: f64 = run(5_000);
        run((first * time.as_secs_f64()) as usize)
    }
}

/// The key that redis-benchmark reads.
const SAMPLE: &str = "sample";

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command in Redis' protocol.
pub(crate) fn command(words: &[&str]) -> String {
    words
        .iter()
        .fold(format!("*{}\r\n", words.len()), |text, word| text + &format!("${}\r\n{word}\r\n", word.len()))
}

/// A PostgreSQL cluster with its default durability.
pub(crate) struct Postgres {
    programs: PathBuf,
    directory: PathBuf,
    child: Child,
    port: u16,
}

/// The inserted data.
#[derive(Clone, Copy)]
pub(crate) enum Insert {
    /// A row as large as a key's event, in a table with no index but its primary key.
    Row,
    /// A key and its audit row, in tables with the indexes for verifying and listing keys and finding their
    /// history.
    Key,
}

impl Insert {
    const ALL: [Self; 2] = [Self::Row, Self::Key];

    const fn tables(self) -> &'static str {
        match self {
            Self::Row => TABLE,
            Self::Key => KEY_TABLES,
        }
    }

    const fn statement(self) -> &'static str {
        match self {
            Self::Row => INSERT,
            Self::Key => KEY_INSERT,
        }
    }

    const fn script(self) -> &'static str {
        match self {
            Self::Row => "insert-row.sql",
            Self::Key => "insert-key.sql",
        }
    }
}

const TABLE: &str = "CREATE TABLE events (
    id bigserial PRIMARY KEY, time timestamptz NOT NULL DEFAULT now(), stream text NOT NULL,
    type text NOT NULL, digest bytea NOT NULL, data text NOT NULL)";
const INSERT: &str = "INSERT INTO events (stream, type, digest, data) VALUES ('key_01KAJX7Q5M3J6S2Y9W8V4T1R0P',
    'KeyCreated', '\\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
    '{\"environment\":\"production\",\"owner\":\"organization\",\"name\":\"Production integration 1234\",\"user_id\":\"user-1234\"}')";

const KEY_TABLES: &str = "CREATE TABLE keys (
    id uuid PRIMARY KEY, digest bytea NOT NULL UNIQUE, organization_id text NOT NULL, user_id text,
    name text NOT NULL, environment text NOT NULL, status text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz);
CREATE INDEX keys_listed ON keys (organization_id, created_at);
CREATE TABLE audit (
    id bigserial PRIMARY KEY, time timestamptz NOT NULL DEFAULT now(), key_id uuid NOT NULL,
    type text NOT NULL, data text NOT NULL);
CREATE INDEX audit_of_key ON audit (key_id)";
const KEY_INSERT: &str = "WITH made AS (INSERT INTO keys (id, digest, organization_id, user_id, name, environment,
    status, expires_at) VALUES (gen_random_uuid(), sha256(gen_random_uuid()::text::bytea),
    'org_01KAJX7Q5M3J6S2Y9W8V4T1R0P', 'user-1234',
    'Production integration 1234', 'production', 'active', now() + interval '1 year') RETURNING id)
    INSERT INTO audit (key_id, type, data) SELECT id, 'KeyCreated',
    '{\"environment\":\"production\",\"owner\":\"organization\",\"actor\":\"rk_01KAJX7Q5M3J6S2Y9W8V4T1R0P\"}' FROM made";

impl Postgres {
    /// Creates a cluster and starts it.
    pub(crate) fn start(place: &Path) -> Self {
        let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
            .unwrap_or_default();
        found.retain(|path| path.join("initdb").exists());
        found.sort();
        let programs = found.pop().expect("postgresql is not installed: run tests/tools-install.sh bench");
        let directory = place.join("postgres");
        fs::create_dir(&directory).unwrap();
        give_away(&directory);
        let data = directory.join("data");
        let made = unprivileged(&programs.join("initdb"))
            .args(["--no-locale", "--encoding=UTF8", "--auth=trust", "--username=bench", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("initdb can be run").success(), "initdb");
        let port = free_address().port();
        let child = unprivileged(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=on"])
            .args(["-c", "synchronous_commit=on", "-c", "max_connections=100", "-c", "shared_buffers=512MB"])
            .args(["-c", "max_wal_size=4GB", "-c"])
            .arg(format!("unix_socket_directories={}", directory.display()))
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .expect("postgres can be started");
        let postgres = Self { programs, directory, child, port };
        poll::until("PostgreSQL to be ready", Duration::from_secs(30), || postgres.sql("SELECT 1"));
        for insert in Insert::ALL {
            postgres.sql(insert.tables()).expect("the tables can be made");
            fs::write(postgres.directory.join(insert.script()), format!("{};\n", insert.statement()))
                .unwrap();
        }
        postgres
    }

    fn sql(&self, sql: &str) -> Option<()> {
        let mut command = Command::new(self.programs.join("psql"));
        let status = self
            .connect(&mut command)
            .args(["-q", "-c", sql, "postgres"])
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        status.status().ok().filter(std::process::ExitStatus::success).map(drop)
    }

    fn connect<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        self.connect_to(&mut *command, "127.0.0.1")
    }

    /// `host` is an address, or the directory with the Unix socket.
    fn connect_to<'a>(&self, command: &'a mut Command, host: impl AsRef<OsStr>) -> &'a mut Command {
        command.arg("-h").arg(host).args(["-p", &self.port.to_string(), "-U", "bench"])
    }

    /// Durable inserts per second by `clients` at once, each insert a transaction.
    pub(crate) fn inserts(&self, insert: Insert, clients: usize, time: Duration) -> f64 {
        self.inserts_from("127.0.0.1".as_ref(), insert, clients, time)
    }

    /// As [`inserts`](Self::inserts), over the Unix socket.
    pub(crate) fn near_inserts(&self, insert: Insert, clients: usize, time: Duration) -> f64 {
        self.inserts_from(self.directory.as_os_str(), insert, clients, time)
    }

    fn inserts_from(&self, host: &OsStr, insert: Insert, clients: usize, time: Duration) -> f64 {
        let mut command = Command::new(self.programs.join("pgbench"));
        let output = self
            .connect_to(&mut command, host)
            .args(["-n", "-M", "prepared", "-c", &clients.to_string(), "-j", "2"])
            .args(["-T", &time.as_secs().to_string(), "-f"])
            .arg(self.directory.join(insert.script()))
            .arg("postgres")
            .output()
            .expect("pgbench can be run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rate = text
            .lines()
            .find_map(|line| line.strip_prefix("tps = "))
            .and_then(|it| it.split(' ').next()?.parse().ok());
        rate.unwrap_or_else(|| panic!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // A fast shutdown: clients are disconnected, and the data is consistent.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.child.wait();
    }
}

/// A command that root runs as the user nobody, because PostgreSQL refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    if !rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command
}

fn give_away(directory: &Path) {
    if rustix::process::getuid().is_root() {
        std::os::unix::fs::chown(directory, Some(65_534), Some(65_534)).unwrap();
        // The user must be able to enter the parent directory too.
        for parent in directory.ancestors().skip(1).take(1) {
            fs::set_permissions(parent, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
}

/// Durable inserts per second into SQLite: `count` in total, split over `clients`, each insert a transaction,
/// with a write-ahead log that is synced at every commit. SQLite serializes the clients.
pub(crate) fn sqlite_inserts(place: &Path, clients: usize, count: usize) -> f64 {
    let directory = tempfile::tempdir_in(place).unwrap();
    let database = directory.path().join("bench.db");
    let table = TABLE
        .replace("bigserial PRIMARY KEY", "INTEGER PRIMARY KEY")
        .replace("timestamptz NOT NULL DEFAULT now()", "text NOT NULL DEFAULT CURRENT_TIMESTAMP")
        .replace("bytea", "blob");
    let made = Command::new("sqlite3")
        .arg(&database)
        .arg(format!("PRAGMA journal_mode=WAL; {table};"))
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("sqlite3 is not installed: run tests/tools-install.sh bench").success(), "sqlite3");
    let insert = INSERT.replace("'\\x", "x'").replace('\n', " ");
    let script = format!("{insert};\n").repeat(count / clients);
    let connect = |_| {
        let mut child = Command::new("sqlite3")
            .arg(&database)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sqlite3 can be started");
        let mut input = child.stdin.take().unwrap();
        writeln!(input, ".bail on\n.timeout 60000\nPRAGMA synchronous=FULL;").unwrap();
        (child, input)
    };
    let connections: Vec<_> = (0..clients).map(connect).collect();
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        for (child, mut input) in connections {
            let script = &script;
            scope.spawn(move || {
                let mut child = child;
                input.write_all(script.as_bytes()).unwrap();
                drop(input);
                assert!(child.wait().unwrap().success(), "sqlite3");
            });
        }
    });
    (count / clients * clients) as f64 / begin.elapsed().as_secs_f64()
}
