//! `keyledger serve`.

mod admission;
mod allocator;
mod connections;
mod exposure;
mod first_root_key;
mod openid_provider;
mod rate_limits;
mod sessions;
mod webhooks;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::Args;
use ipnet::IpNet;
use keyledger_engine::ledger::Ledger;
use keyledger_engine::storage::secret_source::{self, OnCommandLine, Secret, SecretSource};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::admission::Admission;
use self::connections::Connections;
use self::exposure::Exposure;
use self::openid_provider::OpenIdProvider;
use self::sessions::Sessions;
use self::webhooks::Webhooks;
use super::data::Data;
use super::logging::LogFormat;
use super::{Outcome, logging};
use crate::admission::disk_reserve;
use crate::auth::access_token;
use crate::auth::trusted_proxies::{ForwardedHeader, TrustedProxies};
use crate::compat::Compat;
use crate::evidence::destination::Destination;
use crate::evidence::security_log;
use crate::http::listener::{ListenAddress, Listener};
use crate::http::server::{ConnectionLimits, Entrance};
use crate::http::tls::{self, Tls, TlsFiles};
use crate::http::{app, server};
use crate::jobs::webhooks::dispatcher;
use crate::jobs::witness::Witness;
use crate::jobs::{housekeeper, idle_sessions, last_uses, log_verification};
use crate::service::options::Options;
use crate::service::{Service, index_snapshot, log_signer};

/// How long blocking work may take to finish after the last request.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct Serve {
    /// Address to listen on: an IP address and port, or unix: and the path of a Unix socket. Repeat for
    /// several.
    #[arg(
        long,
        env = "KEYLEDGER_LISTEN",
        default_value = "127.0.0.1:7070",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    listen: Vec<ListenAddress>,
    /// Address of a listener of its own for /metrics and the details of /readyz, which are not shown
    /// elsewhere then. Only monitoring should reach it. Repeat for several.
    #[arg(long, env = "KEYLEDGER_ADMIN_LISTEN", value_name = "ADDR", value_delimiter = ',')]
    admin_listen: Vec<ListenAddress>,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    connections: Connections,
    #[command(flatten)]
    admission: Admission,
    /// TLS certificate chain in PEM, the server's certificate first. Reloaded on SIGHUP and when the file
    /// changes.
    #[arg(long, env = "KEYLEDGER_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the TLS certificate, in PEM.
    #[arg(long, env = "KEYLEDGER_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Address of the service as clients see it, which is the issuer of access tokens. The default is the
    /// first network address listened on, with http:// or https://.
    #[arg(long, env = "KEYLEDGER_PUBLIC_URL", value_name = "URL", value_parser = public_url)]
    public_url: Option<String>,
    /// Lifetime of an access token, in seconds.
    #[arg(long, env = "KEYLEDGER_ACCESS_TOKEN_SECONDS", default_value_t = 900, value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    access_token_seconds: u32,
    /// Network of proxies that are trusted to forward the client's address, such as 10.0.0.0/8. Repeat for
    /// several.
    #[arg(
        long = "trusted-proxy",
        env = "KEYLEDGER_TRUSTED_PROXY",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    trusted_proxies: Vec<IpNet>,
    /// Header in which the trusted proxies forward the client's address.
    #[arg(long, env = "KEYLEDGER_FORWARDED_HEADER", value_enum, default_value = "x-forwarded-for")]
    forwarded_header: ForwardedHeader,
    /// Witness that cosigns the log's checkpoints, so that a forked log is detected: its public key, a space,
    /// and the address that receives checkpoints (C2SP tlog-witness). Repeat for several.
    #[arg(long = "witness", env = "KEYLEDGER_WITNESS", value_name = "KEY URL", value_delimiter = ',')]
    witnesses: Vec<Witness>,
    #[command(flatten)]
    openid_provider: OpenIdProvider,
    #[command(flatten)]
    sessions: Sessions,
    #[command(flatten)]
    webhooks: Webhooks,
    /// Key service whose endpoints are served too, for compatibility. Separate several with commas.
    #[arg(long, env = "KEYLEDGER_COMPAT", value_enum, value_delimiter = ',', value_name = "SERVICE")]
    compat: Vec<Compat>,
    /// Format of the service's log, which is written to standard error.
    #[arg(long, env = "KEYLEDGER_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Where the security log is written: stderr, or a file, which is reopened on SIGHUP.
    #[arg(long, env = "KEYLEDGER_SECURITY_LOG", value_name = "stderr|FILE", default_value = "stderr",
        value_parser = str::parse::<Destination>)]
    security_log: Destination,
    /// File with the root key to accept, used at the first start instead of generating one. The key itself
    /// can be in the environment variable KEYLEDGER_BOOTSTRAP_ROOT_KEY.
    #[arg(long, env = "KEYLEDGER_BOOTSTRAP_ROOT_KEY_FILE", value_name = "FILE")]
    bootstrap_root_key_file: Option<PathBuf>,
    /// Refused: process lists show command lines.
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "")]
    bootstrap_root_key: Option<OnCommandLine>,
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

impl Serve {
    /// Runs the service until a signal stops it.
    pub(super) fn run(mut self) -> Outcome {
        logging::start(self.log_format);
        let reexecuted = allocator::set_purge_delay();
        tracing::debug!(millis = ?allocator::purge_delay(), "the allocator keeps unused memory");
        server::allow_open_files(self.connections.files_max(self.listen.len() + self.admin_listen.len()));
        let tls = self.tls()?;
        let bootstrap = self.bootstrap_root_key()?;
        let first_root_key = self.data.first_root_key();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("http").build()?;
        if let Err(error) = reexecuted {
            // With a handler, writing to a closed connection returns an error instead of ending the process.
            runtime.block_on(async { signal(SignalKind::pipe()).map(drop) })?;
            tracing::debug!(%error, "could not set the allocator's purge delay");
        }
        // Bound before the log is opened: an address in use must not cost a replay.
        let listeners = listen(&runtime, &self.listen, "--listen")?;
        let admin_listeners = listen(&runtime, &self.admin_listen, "--admin-listen")?;
        let origin = self.origin(&listeners, tls.is_some())?;
        let socket = self.listen.first().map(ToString::to_string).unwrap_or_default();
        let (limits, compat) = (self.connections.limits(), std::mem::take(&mut self.compat));
        let kek = self.data.kek()?;
        let (service, threads) = Service::start(&self.options(origin.clone(), tls.is_some())?, kek)?;
        first_root_key::remind(&first_root_key);
        service.ensure_root_key(bootstrap.as_ref(), |token| first_root_key::show(token, &first_root_key))?;
        drop(bootstrap);
        let (at, of) =
            origin.map_or((String::new(), format!(", of {socket}")), |origin| (origin, String::new()));
        // An operator who cannot read this can still use the service.
        let _ = writeln!(io::stdout(), "  The console is at {at}/console, the reference at {at}/docs{of}\n");

        let router = app::router(Arc::clone(&service), &compat)?;
        let admin_router = app::admin_router(Arc::clone(&service));
        let public = listeners.into_iter().map(|listener| (listener, &router, true));
        let admin = admin_listeners.into_iter().map(|listener| (listener, &admin_router, false));
        let entrance = |(listener, router, has_endpoints): (Listener, &Router, bool)| Entrance {
            listener,
            router: router.clone(),
            has_endpoints,
        };
        let entrances = public.chain(admin).map(entrance).collect();
        let dispatcher = dispatcher::start(Arc::clone(&service))?;
        log_verification::begin_if_unproven(&service);
        let served = runtime.block_on(serve(entrances, limits, tls, Arc::clone(&service)));
        // A second call has no effect; it is the first when `serve` failed before it listened for signals.
        service.stop();
        let _ = dispatcher.join();
        runtime.shutdown_timeout(SHUTDOWN_TIME_MAX);
        threads.stop(&service)?;
        tracing::info!("stopped");
        Ok(served?)
    }

    fn bootstrap_root_key(&self) -> Result<Option<Secret>, secret_source::Error> {
        let source = SecretSource {
            variable: "KEYLEDGER_BOOTSTRAP_ROOT_KEY",
            file: self.bootstrap_root_key_file.as_deref(),
            on_command_line: self.bootstrap_root_key,
        };
        source.find()
    }

    fn tls(&mut self) -> Result<Option<Arc<Tls>>, tls::Error> {
        match (self.tls_cert.take(), self.tls_key.take()) {
            (Some(certificate), Some(key)) => {
                Tls::open(TlsFiles { certificate, key }).map(|tls| Some(Arc::new(tls)))
            }
            _ => Ok(None),
        }
    }

    /// Returns the origin at the first network address; none when the service listens on Unix sockets only.
    fn origin(&self, listeners: &[Listener], is_tls: bool) -> Result<Option<String>, &'static str> {
        let scheme = scheme(is_tls);
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(Listener::network_address).collect();
        let origin = addresses.first().map(|it| format!("{scheme}://{it}"));
        if origin.is_none() && is_tls {
            return Err("--tls-cert: TLS applies to network addresses, but --listen names only Unix sockets");
        }
        if origin.is_none() && self.public_url.is_none() {
            tracing::warn!(
                "--public-url is not set: access tokens, the console's cookies and sign-in assume \
                 {scheme}://localhost"
            );
        }
        let (public_url, trusted_proxies) = (self.public_url.as_deref(), &*self.trusted_proxies);
        Exposure { addresses: &addresses, is_tls, public_url, trusted_proxies }.warn();
        Ok(origin)
    }

    fn options(self, origin: Option<String>, is_tls: bool) -> Result<Options, secret_source::Error> {
        let access_tokens = access_token::Options {
            public_url: self
                .public_url
                .or(origin)
                .unwrap_or_else(|| format!("{}://localhost", scheme(is_tls))),
            lifetime_seconds: self.access_token_seconds,
        };
        Ok(Options {
            trusted_proxies: TrustedProxies { networks: self.trusted_proxies, header: self.forwarded_header },
            openid_provider: self.openid_provider.options()?,
            sessions: self.sessions.limits(),
            webhooks: self.webhooks.options(),
            admission: self.admission.options(),
            witnesses: self.witnesses,
            security_log: self.security_log,
            has_admin_listener: !self.admin_listen.is_empty(),
            is_tls,
            ..self.data.options(access_tokens)
        })
    }
}

const fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https" } else { "http" }
}

/// Serves requests and runs the background jobs until the service stops.
async fn serve(
    entrances: Vec<Entrance>,
    limits: ConnectionLimits,
    tls: Option<Arc<Tls>>,
    service: Arc<Service>,
) -> io::Result<()> {
    // Signal handlers come before the first request: a client that was answered may send a signal.
    let stop = stop_signal(service.ledger.clone())?;
    let reloading = tokio::spawn(reload_on_signal(Arc::clone(&service), tls.clone()));
    let watching = tls.clone().map(|tls| tokio::spawn(tls.watch_files()));
    let housekeeping = tokio::spawn(housekeeper::run(Arc::clone(&service)));
    let saving = tokio::spawn(index_snapshot::save_periodically(Arc::clone(&service)));
    let ending = tokio::spawn(idle_sessions::run(Arc::clone(&service)));
    let checkpointing = tokio::spawn(housekeeper::checkpoint_when_idle(Arc::clone(&service)));
    let signing = tokio::spawn(log_signer::run(Arc::clone(&service)));
    let noting = tokio::spawn(last_uses::save_periodically(Arc::clone(&service)));
    let summing_up = tokio::spawn(security_log::run(Arc::clone(&service)));
    let watching_disk = tokio::spawn(disk_reserve::watch(Arc::clone(&service)));
    server::serve(entrances, limits, tls, service, stop).await;
    reloading.abort();
    watching.inspect(tokio::task::JoinHandle::abort);
    let _ = tokio::join!(housekeeping, ending, checkpointing, signing, saving, watching_disk);
    let _ = tokio::join!(noting, summing_up);
    Ok(())
}

/// Listens on all addresses, or on none.
fn listen(runtime: &Runtime, addresses: &[ListenAddress], option: &str) -> Result<Vec<Listener>, String> {
    let _entered = runtime.enter();
    let bind = |address| {
        Listener::bind(address)
            .map_err(|error| format!("{address}: cannot listen: {error}; name another address with {option}"))
    };
    addresses.iter().map(bind).collect()
}

/// Reloads the signing keys and the TLS certificate whenever the process receives SIGHUP.
async fn reload_on_signal(service: Arc<Service>, tls: Option<Arc<Tls>>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        let (service, tls) = (Arc::clone(&service), tls.clone());
        let reload = move || {
            service.reload();
            tls.inspect(|tls| tls.reload());
        };
        // An error means that the runtime is shutting down.
        let _ = tokio::task::spawn_blocking(reload).await;
    }
}

/// Listens for SIGTERM and SIGINT from the moment of the call. The returned future resolves at either signal,
/// or when the log fails for good.
fn stop_signal(ledger: Ledger) -> io::Result<impl Future<Output = ()>> {
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminated.recv() => tracing::info!("received SIGTERM; stopping"),
            _ = interrupted.recv() => tracing::info!("received SIGINT; stopping"),
            () = ledger.ended() => tracing::error!("the event log failed; stopping"),
        }
    })
}
