//! The server as its clients see it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use clap::Args;
use mulkko::policy::MAX_BYTES;
use reqwest::header::{AUTHORIZATION, ETAG, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use url::{Host, Url};

use super::serve::{Problem, VersionItem, Versions};

/// How long the server may take to be connected to, and to answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of an answer that is no policy.
const MOST_ANSWER_BYTES: usize = 64 << 20;

/// Which server, and as whom.
#[derive(Args, Clone, Debug)]
pub struct Remote {
    /// The server: `https://config.example.com`
    #[arg(long, value_name = "URL", env = "MULKKO_SERVER", help_heading = "The server")]
    server: Url,

    /// The environment variable that holds the token
    #[arg(long, value_name = "NAME", default_value = "MULKKO_TOKEN", help_heading = "The server")]
    token_env: String,

    /// Who signs the server's certificate, PEM; by default those whom the system trusts
    #[arg(long, value_name = "FILE", help_heading = "The server")]
    ca: Option<PathBuf>,

    /// The client's certificate and private key, PEM, for a server that asks for them
    #[arg(long, value_name = "FILE", help_heading = "The server")]
    client_cert: Option<PathBuf>,

    /// Take `http://` to another host than this one: who is on the way reads the token, and changes what is answered
    #[arg(long, help_heading = "The server")]
    insecure: bool,
}

/// A connection to the server.
pub struct Connection {
    client: Client,
    server: Url,
    token: Option<String>,
    /// Whether it shows a certificate.
    has_certificate: bool,
}

/// A version of a policy, as it was fetched: nobody has verified it.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// With its quotes.
    pub etag: String,
    pub document: Bytes,
}

/// What a push must not overtake.
#[derive(Clone, Debug)]
pub enum Replaces {
    /// There is no version yet.
    Nothing,
    /// The version with this ETag.
    Version(String),
}

/// What has become of a push.
pub enum Answer {
    Stored(VersionItem),
    /// It was the newest version already.
    Unchanged(VersionItem),
    /// Another push came first.
    Changed,
    Refused(Problem),
}

impl Remote {
    /// Does something with the server.
    pub fn run<T>(&self, act: impl AsyncFnOnce(&Connection) -> Result<T>) -> Result<T> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connection = self.connection()?;
        runtime.block_on(act(&connection))
    }

    fn connection(&self) -> Result<Connection> {
        let is_plain = match self.server.scheme() {
            "http" => true,
            "https" => false,
            _ => bail!("{}: expected `http://` or `https://`", self.server),
        };
        if is_plain && !self.insecure && !is_loopback(&self.server) {
            bail!("{}: without TLS only a server on this host is asked; `--insecure` asks any", self.server);
        }
        // No redirects: they lead where nobody was sent.
        let mut builder =
            Client::builder().connect_timeout(TIMEOUT).timeout(TIMEOUT).redirect(redirect::Policy::none());
        let read = |file: &PathBuf| std::fs::read(file).with_context(|| file.display().to_string());
        if let Some(file) = &self.ca {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(&read(file)?)?);
        }
        if let Some(file) = &self.client_cert {
            let identity = Identity::from_pem(&read(file)?).with_context(|| file.display().to_string())?;
            builder = builder.identity(identity);
        }
        let token = std::env::var(&self.token_env).ok().filter(|token| !token.is_empty());
        let has_certificate = self.client_cert.is_some();
        Ok(Connection { client: builder.build()?, server: self.server.clone(), token, has_certificate })
    }
}

impl Connection {
    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder> {
        let mut url = self.server.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow!("{}: it has no path", self.server))?
            .pop_if_empty()
            .extend(path);
        let request = self.client.request(method, url);
        Ok(match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| anyhow!("{}: {}", self.server, innermost(&error)))
    }

    /// The answer to a GET, as JSON.
    pub async fn read<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T> {
        let response = self.send(self.request(Method::GET, path)?.query(query)).await?;
        read(good(response).await?).await
    }

    /// The newest version of a policy, if there is one.
    pub async fn newest(&self, name: &str) -> Result<Option<Fetched>> {
        self.fetched(&["v1", "policies", name]).await
    }

    /// The version of a policy with a revision, if there is one.
    pub async fn version(&self, name: &str, revision: u64) -> Result<Option<Fetched>> {
        self.fetched(&["v1", "policies", name, "versions", &revision.to_string()]).await
    }

    /// The newest versions of a policy, the newest first.
    pub async fn versions(&self, name: &str, most: usize) -> Result<Vec<VersionItem>> {
        let query = [("limit", &*most.to_string())];
        let page: Versions = self.read(&["v1", "policies", name, "versions"], &query).await?;
        Ok(page.versions)
    }

    async fn fetched(&self, path: &[&str]) -> Result<Option<Fetched>> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = good(response).await?;
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        let etag = etag.context("the server gives no ETag: is it `mulkko serve`?")?.to_owned();
        Ok(Some(Fetched { etag, document: body(response, MAX_BYTES).await? }))
    }

    /// Pushes a document.
    pub async fn push(&self, name: &str, document: Vec<u8>, replaces: &Replaces) -> Result<Answer> {
        if self.token.is_none() && !self.has_certificate {
            bail!("no token: set MULKKO_TOKEN; `mulkko token` makes one");
        }
        let request = self.request(Method::PUT, &["v1", "policies", name])?.body(document);
        let request = match replaces {
            Replaces::Nothing => request.header(IF_NONE_MATCH, "*"),
            Replaces::Version(etag) => request.header(IF_MATCH, etag),
        };
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Answer::Stored(read(response).await?)),
            StatusCode::OK => Ok(Answer::Unchanged(read(response).await?)),
            StatusCode::PRECONDITION_FAILED => Ok(Answer::Changed),
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE => {
                Ok(Answer::Refused(read(response).await?))
            }
            _ => {
                bail!(good(response).await.err().unwrap_or_else(|| anyhow!("an answer that nobody expects")))
            }
        }
    }
}

/// Whether what is sent there stays on this host.
fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The body of a response, of at most so many bytes.
async fn body(mut response: Response, most: usize) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            bail!("the server answers with more than {most} bytes");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The body of a response that is no policy, as JSON.
async fn read<T: DeserializeOwned>(response: Response) -> Result<T> {
    Ok(serde_json::from_slice(&body(response, MOST_ANSWER_BYTES).await?)?)
}

/// The response, or what the server says is wrong.
async fn good(response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    match read::<Problem>(response).await {
        Ok(problem) => bail!("{status}: {}", problem.detail),
        Err(_) => bail!("{status}"),
    }
}

/// The cause that says most.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
