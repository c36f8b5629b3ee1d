//! What Istio's manifests are made for: a service, a config cluster, an image.

use std::str::FromStr;

use serde::Serialize;
use url::Url;

/// A service of the mesh: `checkout.shop.svc.cluster.local:8080`.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// Its full name, as Istio's names of clusters and virtual hosts have it.
    pub host: String,
    pub namespace: String,
    pub port: u16,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Service, String> {
        let expected = || format!("expected `checkout.shop.svc.cluster.local:8080`, found `{text}`");
        let (host, port) = text.split_once(':').ok_or_else(expected)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(expected)?;
        let labels: Vec<_> = host.split('.').collect();
        match labels.as_slice() {
            [_, namespace, "svc", _, ..] if labels.iter().all(|it| is_label(it)) => {
                Ok(Service { host: host.to_owned(), namespace: (*namespace).to_owned(), port })
            }
            _ => Err(expected()),
        }
    }
}

/// Whether Kubernetes takes it for the name of a service, a namespace or a subset (RFC 1123).
pub fn is_label(text: &str) -> bool {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| inner(&b) || b == b'-')
        && text.as_bytes().first().is_some_and(inner)
        && text.as_bytes().last().is_some_and(inner)
}

/// The name of an object in Kubernetes.
pub fn label(text: &str) -> Result<String, String> {
    match is_label(text) {
        true => Ok(text.to_owned()),
        false => Err("expected lower-case letters, digits and `-`, at most 63".to_owned()),
    }
}

/// A host that clients ask for.
pub fn hostname(text: &str) -> Result<String, String> {
    match text.len() <= 253 && text.split('.').all(is_label) {
        true => Ok(text.to_owned()),
        false => Err("expected a host name as `shop.example.com`".to_owned()),
    }
}

/// A name, or one of another namespace: `istio-ingress/shop`.
pub fn gateway(text: &str) -> Result<String, String> {
    match text
        .split_once('/')
        .map_or_else(|| is_label(text), |(space, name)| is_label(space) && is_label(name))
    {
        true => Ok(text.to_owned()),
        false => Err("expected a name as `shop` or `istio-ingress/shop`".to_owned()),
    }
}

/// A label of pods: `app=frontend`.
pub fn pod_label(text: &str) -> Result<(String, String), String> {
    let of_label = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && key.bytes().chain(value.bytes()).all(of_label) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err("expected a label as `app=frontend`".to_owned()),
    }
}

/// An environment variable.
pub fn variable(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        true => Ok(text.to_owned()),
        false => Err("expected a name as `MULKKO_PASS_KEY`".to_owned()),
    }
}

/// An image in a registry: `oci://registry.example/mulkko:0.1.0`.
pub fn image(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("oci://").unwrap_or_default();
    let of_image = |b: u8| b.is_ascii_alphanumeric() || b"-_./:".contains(&b);
    match rest.contains('/') && rest.bytes().all(of_image) {
        true => Ok(text.to_owned()),
        false => Err("expected `oci://registry.example/mulkko:0.1.0`".to_owned()),
    }
}

/// A manifest's digest: 64 hexadecimal digits, `sha256:` before them or not.
pub fn digest(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    match digits.len() == 64 && digits.bytes().all(is_hex) {
        true => Ok(digits.to_owned()),
        false => Err("expected 64 hexadecimal digits, as `make image` prints them".to_owned()),
    }
}

/// Where policies come from: `http://config.mulkko.svc.cluster.local:8080/policies/shop.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub path: String,
}

impl Source {
    /// Whether Istio has a cluster of it, where it shows one.
    pub fn is_in_mesh(&self) -> bool {
        !self.tls && format!("{}:{}", self.host, self.port).parse::<Service>().is_ok()
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Source, String> {
        let expected = || {
            format!(
                "expected a URL as `http://config.mulkko.svc.cluster.local:8080/policies/shop.json`, found `{text}`"
            )
        };
        let url = Url::parse(text).map_err(|_| expected())?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(expected()),
        };
        let host = url.host_str().and_then(|host| hostname(host).ok()).ok_or_else(expected)?;
        let port = url.port_or_known_default().ok_or_else(expected)?;
        // Neither a secret nor a part of a page has a place in a request for a policy.
        if url.path() == "/"
            || !url.username().is_empty()
            || url.password().is_some()
            || url.fragment().is_some()
        {
            return Err(expected());
        }
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Source { host, port, tls, path })
    }
}
