//! Connections: how many, how long they may take, and TLS.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use clap::Args;
use prometheus_client::metrics::gauge::Gauge;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutWriter;
use tower_http::add_extension::AddExtension;

use super::asker::network;

/// How long a client may take for its handshake, and for the headers of a request.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may stay open between requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// The most bytes of a request's headers.
const MOST_HEADER_BYTES: u32 = 32 << 10;
/// The most requests of an HTTP/2 connection at once.
const MOST_STREAMS: u32 = 256;

/// The certificates of the server, and of who may connect.
#[derive(Args, Clone, Debug)]
pub struct Tls {
    /// The server's certificate chain, PEM; without it there is no TLS
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "TLS")]
    tls_cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    tls_key: Option<PathBuf>,

    /// Whose certificates clients must have, PEM: mutual TLS
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    client_ca: Option<PathBuf>,
}

impl Tls {
    /// What the server shows and asks for; `None` without a certificate.
    ///
    /// # Errors
    /// When a file cannot be read, or key and certificate do not belong together.
    pub fn config(&self) -> Result<Option<Arc<ServerConfig>>> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let builder = match &self.client_ca {
            None => ServerConfig::builder().with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    roots.add(certificate).with_context(|| file.display().to_string())?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
                ServerConfig::builder()
                    .with_client_cert_verifier(verifier.with_context(|| file.display().to_string())?)
            }
        };
        let private = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
        let config = builder.with_single_cert(certificates(cert)?, private);
        let mut config = config.with_context(|| cert.display().to_string())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(Arc::new(config)))
    }
}

/// The certificates of a file.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    read.with_context(|| file.display().to_string())
}

/// Serves until the handle says that it is enough.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<ServerConfig>>,
    connections: Connections,
    handle: Handle<SocketAddr>,
) -> Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let mut server = axum_server::from_tcp(listener)?.handle(handle).first_request_timeout(HEADERS_TIMEOUT);
    let refused = |from: Option<&SocketAddr>, error: &io::Error| {
        let from = from.map(ToString::to_string).unwrap_or_default();
        tracing::warn!(from, "connection refused: {error}");
    };
    server = server.accept_error_handler(refused);
    let builder = server.http_builder();
    builder.http1().header_read_timeout(IDLE_TIMEOUT).max_buf_size(MOST_HEADER_BYTES as usize);
    builder
        .http2()
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MOST_HEADER_BYTES)
        .keep_alive_interval(IDLE_TIMEOUT / 3)
        .keep_alive_timeout(HEADERS_TIMEOUT);
    let limited = Limited { connections };
    match tls {
        None => server.acceptor(limited).serve(service).await?,
        Some(config) => {
            let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(config));
            server
                .acceptor(acceptor.handshake_timeout(HEADERS_TIMEOUT).acceptor(limited))
                .serve(service)
                .await?;
        }
    }
    Ok(())
}

/// How many connections there may be, and how many there are.
#[derive(Clone, Debug)]
pub struct Connections {
    most: usize,
    most_by_address: usize,
    open: Gauge,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Connections {
    /// At most so many, and so many of one address, counted in a gauge.
    pub fn new(most: usize, most_by_address: usize, open: Gauge) -> Connections {
        Connections { most, most_by_address, open, by_address: Arc::default() }
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, if there may be one.
    fn open(&self, address: IpAddr) -> io::Result<Open> {
        let address = network(address);
        let mut by_address = self.by_address();
        if usize::try_from(self.open.get()).is_ok_and(|open| open >= self.most) {
            return Err(io::Error::other("too many connections"));
        }
        let own = by_address.get(&address).copied().unwrap_or_default();
        if own >= self.most_by_address {
            return Err(io::Error::other("too many connections of one address"));
        }
        by_address.insert(address, own + 1);
        self.open.inc();
        Ok(Open { connections: self.clone(), address })
    }
}

/// A connection that counts for as long as it is served.
#[derive(Debug)]
struct Open {
    connections: Connections,
    address: IpAddr,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut by_address = self.connections.by_address();
        self.connections.open.dec();
        if let Entry::Occupied(mut own) = by_address.entry(self.address) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// Takes no more connections than there may be, what is beyond is closed at once; and ends those that take nothing.
#[derive(Clone, Debug)]
struct Limited {
    connections: Connections,
}

impl<S> Accept<TcpStream, S> for Limited {
    type Stream = Pin<Box<TimeoutWriter<TcpStream>>>;
    type Service = AddExtension<S, Arc<Open>>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let open = stream.peer_addr().and_then(|peer| self.connections.open(peer.ip()));
        ready(open.map(|open| {
            let mut stream = TimeoutWriter::new(stream);
            stream.set_timeout(Some(WRITE_TIMEOUT));
            (Box::pin(stream), AddExtension::new(service, Arc::new(open)))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_for_the_others() {
        let connections = Connections::new(3, 2, Gauge::default());
        let open =
            |address: &str| connections.open(address.parse().unwrap()).map_err(|error| error.to_string());
        let first = open("10.0.0.1").unwrap();
        let _second = open("10.0.0.1").unwrap();
        assert_eq!(open("::ffff:10.0.0.1").unwrap_err(), "too many connections of one address");
        let other = open("2001:db8::1").unwrap();
        assert_eq!(open("10.0.0.2").unwrap_err(), "too many connections");
        drop((first, other));
        assert_eq!(connections.open.get(), 1);
        assert_eq!(connections.by_address().len(), 1);
        assert!(open("10.0.0.1").is_ok());
    }
}
