//! The service's command line.

mod allocator;
mod duration;
mod logging;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use self::logging::LogFormat;
use crate::auth::origin::{ForwardedHeader, TrustedProxies};
use crate::auth::{access, access_token, oidc, signing_keys};
use crate::compat::Compat;
use crate::http::listener::{ListenAddress, Listener};
use crate::http::tls::{Tls, TlsFiles};
use crate::http::{app, server};
use crate::jobs::witness::Witness;
use crate::jobs::{housekeeper, webhooks};
use crate::openapi;
use crate::routes;
use crate::service::data_directory::DataDirectory;
use crate::service::{Options, Service};
use crate::service::{index_snapshot, log_signer};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use keyledger_engine::ledger::Ledger;
use keyledger_engine::transparency::note::KeyName;
use keyledger_engine::value::id::OrganizationId;
use keyledger_engine::value::permission::Permission;
use keyledger_engine::value::time::{Clock, SystemClock};
use keyledger_engine::value::token::Token;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// Could not run at all.
const COULD_NOT_RUN: u8 = 2;

/// Issues, verifies and audits API keys.
#[derive(Parser)]
#[command(name = "keyledger", version, about)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service.
    Serve(Box<Serve>),
    /// Manage root keys while the service does not run.
    #[command(subcommand)]
    RootKey(RootKeyCommand),
    /// Manage the keys that sign access tokens.
    #[command(subcommand)]
    SigningKey(SigningKeyCommand),
    /// Print the key that checks the signatures of the event log's checkpoints.
    LogKey {
        /// The directory that holds everything.
        #[arg(long, env = "KEYLEDGER_DATA", default_value = "./data", value_name = "DIR")]
        data: PathBuf,
    },
    /// Print the OpenAPI document.
    Openapi,
    /// Print who may do what: docs/permissions.md.
    Permissions,
}

#[derive(Args)]
struct Serve {
    /// The address to listen on: an IP address and a port, or unix: and the path of a Unix socket. May be given more than
    /// once.
    #[arg(
        long,
        env = "KEYLEDGER_LISTEN",
        default_value = "127.0.0.1:7070",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    listen: Vec<ListenAddress>,
    #[command(flatten)]
    data: Data,
    /// Connections at a time; one more is told to come back. Each needs an open file.
    #[arg(long, env = "KEYLEDGER_MAX_CONNECTIONS", default_value_t = 8_192, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// The certificate for TLS, PEM, with those that lead from it to one that clients know. Read again on SIGHUP and when the
    /// file changes.
    #[arg(long, env = "KEYLEDGER_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, env = "KEYLEDGER_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Where the service is reached, as clients see it: the issuer of access tokens. http:// or https:// and the address
    /// listened on if left out.
    #[arg(long, env = "KEYLEDGER_PUBLIC_URL", value_name = "URL", value_parser = public_url)]
    public_url: Option<String>,
    /// For how many seconds an access token is good.
    #[arg(long, env = "KEYLEDGER_ACCESS_TOKEN_SECONDS", default_value_t = 900, value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    access_token_seconds: u32,
    /// A network of proxies that are trusted to tell for whom they ask, such as 10.0.0.0/8; may be given more than once.
    #[arg(
        long = "trusted-proxy",
        env = "KEYLEDGER_TRUSTED_PROXY",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    trusted_proxies: Vec<IpNet>,
    /// The header in which they tell it.
    #[arg(long, env = "KEYLEDGER_FORWARDED_HEADER", value_enum, default_value = "x-forwarded-for")]
    forwarded_header: ForwardedHeader,
    /// Who cosigns the log's checkpoints, so that nobody can be shown another log: a witness's key and, after a space, the
    /// address at which it takes checkpoints (C2SP tlog-witness). May be given more than once.
    #[arg(long = "witness", env = "KEYLEDGER_WITNESS", value_name = "KEY URL", value_delimiter = ',')]
    witnesses: Vec<Witness>,
    #[command(flatten)]
    openid_provider: OpenIdProvider,
    #[command(flatten)]
    webhooks: Webhooks,
    /// Other services whose calls are answered too, with commas between them.
    #[arg(long, env = "KEYLEDGER_COMPAT", value_enum, value_delimiter = ',', value_name = "SERVICE")]
    compat: Vec<Compat>,
    /// How the log's lines look.
    #[arg(long, env = "KEYLEDGER_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// The root key to accept at the first start, instead of making one.
    #[arg(long, env = "KEYLEDGER_BOOTSTRAP_ROOT_KEY", hide_env_values = true, value_name = "KLROOT")]
    bootstrap_root_key: Option<String>,
}

/// The OpenID provider whose users may call.
#[derive(Args)]
struct OpenIdProvider {
    /// The issuer of an OpenID provider whose users' tokens are accepted.
    #[arg(long, env = "KEYLEDGER_OIDC_ISSUER", value_name = "URL", requires = "oidc_audience")]
    oidc_issuer: Option<String>,
    /// The audience that its tokens for this service have.
    #[arg(long, env = "KEYLEDGER_OIDC_AUDIENCE", value_name = "AUDIENCE", requires = "oidc_issuer")]
    oidc_audience: Option<String>,
    /// The claim with the user's role: owner, admin, member or auditor, or a list with one of them.
    #[arg(long, env = "KEYLEDGER_OIDC_ROLE_CLAIM", value_name = "CLAIM", default_value = "role")]
    oidc_role_claim: String,
    /// The claim with the id of the user's organization.
    #[arg(
        long,
        env = "KEYLEDGER_OIDC_ORGANIZATION_CLAIM",
        value_name = "CLAIM",
        default_value = "organization_id"
    )]
    oidc_organization_claim: String,
    /// The client identifier that the provider knows the console by, for people to sign in to it there. They come back to
    /// /console/openid/callback.
    #[arg(long, env = "KEYLEDGER_OIDC_CLIENT_ID", value_name = "ID", requires = "oidc_issuer")]
    oidc_client_id: Option<String>,
    /// The client's secret, unless it is a public client.
    #[arg(
        long,
        env = "KEYLEDGER_OIDC_CLIENT_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        requires = "oidc_client_id"
    )]
    oidc_client_secret: Option<String>,
}

/// How webhooks are served.
#[derive(Args)]
struct Webhooks {
    /// Lets webhooks be told without TLS, at http:// addresses.
    #[arg(long, env = "KEYLEDGER_WEBHOOK_ALLOW_HTTP")]
    webhook_allow_http: bool,
    /// A network that is not of the internet, such as 10.1.0.0/16, where webhooks may be nevertheless; may be given more than
    /// once.
    #[arg(
        long = "webhook-allow-network",
        env = "KEYLEDGER_WEBHOOK_ALLOW_NETWORK",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    webhook_allow_networks: Vec<IpNet>,
    /// How long to wait after each attempt to deliver a message that failed; past the last one it is given up.
    #[arg(long, env = "KEYLEDGER_WEBHOOK_RETRIES", value_name = "SPANS", value_delimiter = ',',
        value_parser = duration::parse, default_value = "5s,5m,30m,2h,5h,10h,14h,20h,24h")]
    webhook_retries: Vec<std::time::Duration>,
    /// A webhook to which nothing could be delivered for so long is disabled.
    #[arg(long, env = "KEYLEDGER_WEBHOOK_DISABLE_AFTER", value_name = "SPAN", value_parser = duration::parse,
        default_value = "5d")]
    webhook_disable_after: std::time::Duration,
    /// How long before their end webhooks are told of keys.
    #[arg(long, env = "KEYLEDGER_EXPIRY_NOTICES", value_name = "SPANS", value_delimiter = ',',
        value_parser = duration::parse, default_value = "30d,7d,1d")]
    expiry_notices: Vec<std::time::Duration>,
}

impl Webhooks {
    fn options(self) -> webhooks::Options {
        webhooks::Options {
            allow_http: self.webhook_allow_http,
            allowed_networks: self.webhook_allow_networks,
            retry_delays: self.webhook_retries,
            disable_after: self.webhook_disable_after,
            expiry_notices: self.expiry_notices,
        }
    }
}

impl OpenIdProvider {
    fn options(self) -> Option<oidc::Options> {
        Some(oidc::Options {
            issuer: self.oidc_issuer?,
            audience: self.oidc_audience?,
            role_claim: self.oidc_role_claim,
            organization_claim: self.oidc_organization_claim,
            client: self.oidc_client_id.map(|id| oidc::code_flow::ConsoleClient {
                id,
                secret: self.oidc_client_secret.map(Zeroizing::new),
            }),
        })
    }
}

#[derive(Args)]
struct Data {
    /// The directory that holds everything; it is made if it is missing.
    #[arg(long, env = "KEYLEDGER_DATA", default_value = "./data", value_name = "DIR")]
    data: PathBuf,
    /// How much of the event log is kept in memory, in MiB.
    #[arg(long, env = "KEYLEDGER_LOG_CACHE_MIB", default_value_t = 64, value_name = "MIB")]
    log_cache_mib: usize,
    /// The name under which checkpoints of the event log are signed, such as keys.example.com/log; drawn from the log's id
    /// at the first start if left out.
    #[arg(long, env = "KEYLEDGER_LOG_ORIGIN", value_name = "NAME", value_parser = str::parse::<KeyName>)]
    log_origin: Option<KeyName>,
    /// The file of the key that signs checkpoints; the one in the data directory, made at the first start, if left out.
    #[arg(long, env = "KEYLEDGER_LOG_KEY_FILE", value_name = "FILE")]
    log_key_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum RootKeyCommand {
    /// Make a root key and print its token, once.
    Create {
        #[command(flatten)]
        data: Data,
        /// What it allows; `admin` if left out.
        #[arg(long = "permission", value_name = "P", value_parser = str::parse::<Permission>)]
        permissions: Vec<Permission>,
        /// The only organization that it is to see.
        #[arg(long, value_name = "ID", value_parser = str::parse::<OrganizationId>)]
        organization: Option<OrganizationId>,
    },
}

#[derive(Subcommand)]
enum SigningKeyCommand {
    /// Make a new key, which signs from now on; the one before is published until its tokens have ended. A running service
    /// reads the keys again on SIGHUP.
    Rotate {
        /// The directory that holds everything.
        #[arg(long, env = "KEYLEDGER_DATA", default_value = "./data", value_name = "DIR")]
        data: PathBuf,
    },
}

impl Data {
    /// How the service is to run, with no more than its data.
    fn options(self, access_tokens: access_token::Options) -> Options {
        let log_cache_bytes = self.log_cache_mib.saturating_mul(1024 * 1024);
        let log_signer = log_signer::Options { key_file: self.log_key_file, origin: self.log_origin };
        Options {
            data: self.data,
            log_cache_bytes,
            log_signer,
            witnesses: Vec::new(),
            access_tokens,
            trusted_proxies: TrustedProxies::default(),
            openid_provider: None,
            webhooks: webhooks::Options::default(),
        }
    }
}

/// Reads the address of the service as clients see it: an origin, without a path.
fn public_url(text: &str) -> Result<String, String> {
    let wrong =
        || "must be http:// or https:// and a host, without a path, such as https://keys.example.com".into();
    let url = text.strip_suffix('/').unwrap_or(text);
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let is_origin = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|it| !it.as_str().contains('@'))
        && uri.path_and_query().is_none_or(|it| it == "/");
    if is_origin { Ok(url.to_owned()) } else { Err(wrong()) }
}

/// What is wrong with a command line, and where to read what is right.
fn in_one_line(error: &clap::Error) -> String {
    let said = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is missing".to_owned()
        }
        _ => {
            let text = error.to_string();
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let said = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
            said.collect::<Vec<_>>().join(" ")
        }
    };
    let said = said.trim_start_matches("error: ");
    format!("{said}; `keyledger --help` tells the commands, `keyledger <command> --help` what each takes")
}

/// Runs the command line of this process and returns its exit code: 0, or 2 if it could not run.
pub fn run() -> ExitCode {
    logging::log_panics(COULD_NOT_RUN);
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            error.exit()
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "keyledger: {}", in_one_line(&error));
            return ExitCode::from(COULD_NOT_RUN);
        }
    };
    let done = match command_line.command {
        Command::Serve(serve) => run_service(*serve),
        Command::RootKey(RootKeyCommand::Create { data, permissions, organization }) => {
            create_root_key(data, permissions, organization)
        }
        Command::SigningKey(SigningKeyCommand::Rotate { data }) => rotate_signing_key(&data),
        Command::Openapi => openapi::document_text(&routes::endpoints().1)
            .map_err(Into::into)
            .and_then(|text| print_text(&text)),
        Command::Permissions => print_text(&access::document()),
        Command::LogKey { data } => print_log_key(&data),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can be told, the exit code has to do.
            let _ = writeln!(std::io::stderr(), "keyledger: {error}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn run_service(serve: Serve) -> Outcome {
    logging::start(serve.log_format);
    let memory_kept = allocator::keep_memory();
    server::allow_open_files(serve.max_connections);
    let tls = match (serve.tls_cert, serve.tls_key) {
        (Some(certificate), Some(key)) => Some(Arc::new(Tls::open(TlsFiles { certificate, key })?)),
        _ => None,
    };
    let bootstrap = serve.bootstrap_root_key.map(Zeroizing::new);
    // Bound before the log is opened: an address in use must not cost a replay.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("http").build()?;
    if let Err(error) = memory_kept {
        // Handled from now on, by doing nothing: whoever writes finds out by the error.
        runtime.block_on(async { signal(SignalKind::pipe()).map(drop) })?;
        tracing::debug!(%error, "memory is kept for as long as the allocator does by itself");
    }
    let listeners = listen(&runtime, &serve.listen)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let origin = listeners.iter().find_map(Listener::network_address).map(|it| format!("{scheme}://{it}"));
    if origin.is_none() && tls.is_some() {
        return Err("--tls-cert: TLS is for the network, and --listen names only Unix sockets".into());
    }
    if origin.is_none() && serve.public_url.is_none() {
        tracing::warn!(
            "no --public-url: access tokens, the console's cookies and sign-in are made for {scheme}://localhost"
        );
    }
    let access_tokens = access_token::Options {
        public_url: serve.public_url.or(origin.clone()).unwrap_or_else(|| format!("{scheme}://localhost")),
        lifetime_seconds: serve.access_token_seconds,
    };
    let trusted_proxies = TrustedProxies { networks: serve.trusted_proxies, header: serve.forwarded_header };
    let openid_provider = serve.openid_provider.options();
    let webhooks = serve.webhooks.options();
    let witnesses = serve.witnesses;
    let options = Options {
        trusted_proxies,
        openid_provider,
        webhooks,
        witnesses,
        ..serve.data.options(access_tokens)
    };
    let (service, threads) = Service::start(&options)?;
    service.ensure_root_key(bootstrap.as_ref().map(|token| token.as_str()), |token| {
        writeln!(std::io::stdout(), "\n  Root key, shown this once: {}\n", token.expose())
    })?;
    drop(bootstrap);
    // Good to know, but no reason not to serve.
    let _ = match origin {
        Some(origin) => {
            writeln!(
                std::io::stdout(),
                "  The console is at {origin}/console, the reference at {origin}/docs\n"
            )
        }
        None => {
            let socket = serve.listen.first().map(ToString::to_string).unwrap_or_default();
            writeln!(std::io::stdout(), "  The console is at /console, the reference at /docs, of {socket}\n")
        }
    };

    let router = app::router(Arc::clone(&service), &serve.compat)?;
    let dispatcher = webhooks::dispatcher::start(Arc::clone(&service))?;
    let served = runtime.block_on(async {
        // Before anybody is served who could tell it to stop.
        let stop = stop_signal(service.ledger.clone())?;
        let reloading = tokio::spawn(reload_on_signal(Arc::clone(&service), tls.clone()));
        let following = tls.clone().map(|tls| tokio::spawn(tls.follow_files()));
        let housekeeping = tokio::spawn(housekeeper::run(Arc::clone(&service)));
        let saving = tokio::spawn(index_snapshot::keep(Arc::clone(&service)));
        let resting = tokio::spawn(housekeeper::let_the_log_rest(Arc::clone(&service)));
        let signing = tokio::spawn(log_signer::run(Arc::clone(&service)));
        server::serve(listeners, serve.max_connections, tls, Arc::clone(&service), router, stop).await;
        reloading.abort();
        following.inspect(tokio::task::JoinHandle::abort);
        let _ = tokio::join!(housekeeping, resting, signing, saving);
        Ok(())
    });
    // Told already, unless nobody was served.
    service.stop();
    let _ = dispatcher.join();
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    threads.stop(&service)?;
    tracing::info!("stopped");
    served
}

/// Listens at all addresses, or at none.
fn listen(runtime: &Runtime, addresses: &[ListenAddress]) -> Result<Vec<Listener>, String> {
    let _entered = runtime.enter();
    let bind = |address| {
        Listener::bind(address)
            .map_err(|error| format!("{address}: cannot listen: {error}; name another address with --listen"))
    };
    addresses.iter().map(bind).collect()
}

/// Has the service read its keys and its certificate again whenever the process gets SIGHUP.
async fn reload_on_signal(service: Arc<Service>, tls: Option<Arc<Tls>>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        let (service, tls) = (Arc::clone(&service), tls.clone());
        let reload = move || {
            service.reload();
            tls.inspect(|tls| tls.reload());
        };
        // An error says that the runtime ends.
        let _ = tokio::task::spawn_blocking(reload).await;
    }
}

/// Listens for what tells the process to stop from when it is called on. The future resolves then, or when the log is beyond
/// recovery.
fn stop_signal(ledger: Ledger) -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminated.recv() => tracing::info!("told to stop"),
            _ = interrupted.recv() => tracing::info!("told to stop"),
            () = ledger.ended() => tracing::error!("the event log does not work any more; stopping"),
        }
    })
}

fn create_root_key(
    data: Data,
    permissions: Vec<Permission>,
    organization: Option<OrganizationId>,
) -> Outcome {
    // No access token is given here.
    let access_tokens = access_token::Options { public_url: String::new(), lifetime_seconds: 1 };
    let (service, threads) = Service::start(&data.options(access_tokens))?;
    if let Some(id) = &organization
        && service.index.organization(id).is_none_or(|it| it.deleted_at.is_some())
    {
        threads.stop(&service)?;
        return Err(
            format!("{id}: no organization has this id, or it was deleted; check --organization").into()
        );
    }
    let permissions = if permissions.is_empty() { vec![Permission::Admin] } else { permissions };
    let show = |token: &Token| writeln!(std::io::stdout(), "{}", token.expose());
    let created = service.new_root_key(permissions, organization, "Made on the command line", show);
    threads.stop(&service)?;
    let _ = writeln!(std::io::stderr(), "{} (its token is shown this once)", created?.id);
    Ok(())
}

fn rotate_signing_key(data: &std::path::Path) -> Outcome {
    let directory = DataDirectory::existing(data)?;
    signing_keys::rotate_now(&directory.signing_keys(), SystemClock.now())?;
    let _ = writeln!(std::io::stderr(), "a new key signs from now on; a running service reads it on SIGHUP");
    Ok(())
}

fn print_log_key(data: &Path) -> Outcome {
    let path = DataDirectory::existing(data)?.log_verifier();
    let verifier = std::fs::read_to_string(&path).map_err(|error| {
        format!("{}: {error}; it is made when the service starts for the first time", path.display())
    })?;
    print_text(&verifier)
}

fn print_text(text: &str) -> Outcome {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads only the beginning, as `head` does, has what they wanted.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
