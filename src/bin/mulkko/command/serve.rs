//! `mulkko serve`: a config cluster.

mod api;
mod asker;
mod candidate;
mod difference;
mod listen;
mod metrics;
mod plugins;
mod policies;
mod problem;
mod proxies;
mod pushers;
mod store;
pub mod tokens;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum_server::Handle;
use clap::{Args, ValueEnum};
use mulkko::moment;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

use super::Outcome;
use super::moments::duration;
use super::output::Output;
use api::Server;
pub use api::answers::{Audit, BrokenItem, Spread, Standing, VersionItem, Versions};
use listen::{Connections, Tls};
use plugins::Plugins;
use policies::Policies;
pub use problem::Problem;
use proxies::Proxies;
pub use proxies::State;
use store::Store;
use tokens::Tokens;

/// Keep versions of policies, serve them to proxies, and tell who runs what.
///
/// The server holds nothing but what the store holds: run as many as you like over one store. It checks what is pushed as
/// the plugin does, stores it as it came, and signs nothing. Policies are read and pushed with tokens, or with clients'
/// certificates; on loopback, and with `--anonymous`, everybody may read. It ends on SIGTERM, when its requests have been
/// answered.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mulkko serve --store ./config --tokens tokens.json
  mulkko serve --store s3://bucket/mulkko --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key

Stores and their credentials: a folder; `s3://` with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT;
`gs://` with GOOGLE_SERVICE_ACCOUNT; `az://` with AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY.")]
pub struct Serve {
    /// Where versions lie: a folder, or a URL
    #[arg(long, value_name = "PLACE", default_value = "mulkko-store")]
    store: String,

    /// The address to listen at; port 0 is any
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,

    /// The file of tokens and certificates that may read and push, which `mulkko token` makes entries for; without it
    /// nobody may push
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,

    /// Whether everybody may read; by default on loopback only. Who has not shown what it may read with is not believed
    /// to be a proxy, where others have
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    anonymous: Option<bool>,

    /// The plugin configuration of the proxies that policies are for, again for more: what is not signed by its `verify`,
    /// or names a cluster outside its `clusters`, is refused
    #[arg(long = "plugin", value_name = "FILE")]
    plugins: Vec<PathBuf>,

    #[command(flatten)]
    tls: Tls,

    /// How soon a push to another server over the same store is noticed
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = period, help_heading = "Pace")]
    refresh: Duration,

    /// How often other servers are told which proxies ask here
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = period, help_heading = "Pace")]
    heartbeat: Duration,

    /// How long a proxy is remembered that is not heard of
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = period, help_heading = "Pace")]
    forget: Duration,

    /// The longest that a request may wait for a new version
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = period, help_heading = "Limits")]
    longest_wait: Duration,

    /// How long the body of a push may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = period, help_heading = "Limits")]
    body_timeout: Duration,

    /// How long requests may take to end on SIGTERM
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = period, help_heading = "Limits")]
    grace: Duration,

    /// The most connections at once
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, help_heading = "Limits")]
    connections: usize,

    /// The most of one address, of IPv6 of one network of 64 bits; by default nine tenths of all
    #[arg(long, value_name = "COUNT", help_heading = "Limits")]
    connections_per_address: Option<usize>,

    /// The most proxies of one address that show neither a token nor a certificate
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, help_heading = "Limits")]
    proxies_per_address: usize,

    /// What to log: `debug` shows every request
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Log::Info)]
    log: Log,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Log {
    Error,
    Warn,
    Info,
    Debug,
}

/// A duration above 0.
fn period(text: &str) -> Result<Duration, String> {
    match duration(text).map(moment::Duration::as_ms)? {
        0 => Err("expected above 0".to_owned()),
        ms => Ok(Duration::from_millis(ms)),
    }
}

impl Serve {
    pub fn run(&self, output: &Output) -> Result<Outcome> {
        self.start_log(output.is_json());
        // The one that all of TLS here uses, towards clients and stores.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.serve())?;
        // What still looks at the store need not be waited for.
        runtime.shutdown_background();
        Ok(Outcome::Good)
    }

    fn start_log(&self, json: bool) {
        let level = match self.log {
            Log::Error => Level::ERROR,
            Log::Warn => Level::WARN,
            Log::Info => Level::INFO,
            Log::Debug => Level::DEBUG,
        };
        let log =
            tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
        if json {
            log.json().flatten_event(true).with_ansi(false).init();
        } else {
            log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
        }
    }

    async fn serve(&self) -> Result<()> {
        let store = Store::open(&self.store)?;
        let anonymous = self.anonymous.unwrap_or(self.listen.ip().to_canonical().is_loopback());
        let tokens = Tokens::open(self.tokens.clone(), anonymous)?;
        if !anonymous && self.tokens.is_none() {
            tracing::warn!("nobody may read: there is no file of tokens, and no `--anonymous`");
        }
        let plugins = Plugins::open(self.plugins.clone())?;
        let tls = self.tls.config()?;
        let listener = TcpListener::bind(self.listen).with_context(|| self.listen.to_string())?;
        let address = listener.local_addr()?;

        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|error| anyhow!("no randomness: {error}"))?;
        let name = format!("{:016x}", u64::from_le_bytes(id));
        let proxies = Proxies::new(name, self.forget, self.proxies_per_address);
        let policies = Policies::new(store, self.refresh);
        let server = Server::new(policies, proxies, (tokens, plugins), self.longest_wait, self.body_timeout);
        let server = Arc::new(server);
        let share = self.connections_per_address.unwrap_or(self.connections.saturating_mul(9).div_ceil(10));
        let connections = Connections::new(self.connections, share, server.metrics.connections.clone());

        // Each connection is a file; systems allow 1,024 unless they are asked.
        let most = u64::try_from(self.connections).unwrap_or(u64::MAX).saturating_add(1_000);
        if rlimit::increase_nofile_limit(most).is_ok_and(|given| given < most) {
            tracing::warn!("the system allows fewer open files than {} connections take", self.connections);
        }
        let handle = Handle::new();
        tokio::spawn(end_on_signal(handle.clone(), server.ending.clone(), self.grace)?);
        let (at_work, heartbeat) = (Arc::clone(&server), self.heartbeat);
        tokio::spawn(async move {
            tokio::join!(
                at_work.policies.keep_fresh(),
                at_work.proxies.beat(at_work.policies.store(), heartbeat),
            )
        });

        let scheme = if tls.is_some() { "https" } else { "http" };
        tracing::info!(store = self.store, "listening at {scheme}://{address}");
        listen::serve(listener, api::router(Arc::clone(&server)), tls, connections, handle).await?;
        server.proxies.leave(server.policies.store()).await;
        tracing::info!("ended");
        Ok(())
    }
}

/// Has the server end when it is asked to, by SIGTERM or Ctrl-C.
fn end_on_signal(
    handle: Handle<SocketAddr>,
    ending: tokio_util::sync::CancellationToken,
    grace: Duration,
) -> Result<impl Future<Output = ()>> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! { _ = term.recv() => {} _ = interrupt.recv() => {} }
        tracing::info!("ending");
        ending.cancel();
        handle.graceful_shutdown(Some(grace));
    })
}
