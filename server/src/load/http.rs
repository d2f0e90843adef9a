//! The HTTP of WHIP and WHEP from the client's side: one connection kept alive, a request at a time.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::limits::{ANSWER_BYTES_MAX, HTTP_TIMEOUT};

/// An `http://` or `https://` URL, resolved.
#[derive(Clone, Debug)]
pub struct Url {
    /// Where to connect.
    pub(super) address: SocketAddr,
    host: String,
    /// For the `Host` header.
    authority: String,
    is_secure: bool,
    /// Path and query.
    path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_secure = text.starts_with("https://");
        if !is_secure && !text.starts_with("http://") {
            return Err("it must begin with http:// or https://".to_owned());
        }
        let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("names and passwords in a URL are not sent; use --token".to_owned());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority
            .port_u16()
            .unwrap_or(if is_secure { 443 } else { 80 });
        let mut addresses = (&*host, port)
            .to_socket_addrs()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            address: addresses.next().ok_or("the name has no address")?,
            host,
            authority: authority.to_string(),
            is_secure,
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }
}

impl Url {
    /// Whether it takes TLS.
    pub(super) const fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The path of what a `Location` header names, if it is on the same server (RFC 3986 §5.2, without dots).
    pub(super) fn resolve(&self, location: &str) -> Option<String> {
        let scheme = if self.is_secure { "https" } else { "http" };
        let own = format!("{scheme}://{}/", self.authority);
        if let Some(path) = location.strip_prefix(&own) {
            return Some(format!("/{path}"));
        }
        if location.contains("://") || location.starts_with("//") {
            return None;
        }
        if location.starts_with('/') {
            return Some(location.to_owned());
        }
        let base = self.path.split('?').next().unwrap_or_default();
        let folder = base.rfind('/').map_or("/", |at| &base[..=at]);
        Some(format!("{folder}{location}"))
    }
}

/// Which certificates a server may show.
///
/// # Errors
/// Why the file cannot be used.
pub(super) fn trust(authorities: &Path) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let read =
        CertificateDer::pem_file_iter(authorities).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let (usable, _) = roots.add_parsable_certificates(read.map_err(|error| error.to_string())?);
    if usable == 0 {
        return Err("it holds no certificate in PEM".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A whole response.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: String,
}

/// What all clients of a server share.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) tls: Option<TlsConnector>,
    /// Of each request, if there is one.
    pub(super) authorization: Option<HeaderValue>,
}

/// One client.
pub(super) struct Client {
    target: Arc<Target>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    pub(super) const fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            sender: None,
        }
    }

    /// POSTs an offer to the URL.
    ///
    /// # Errors
    /// What went wrong, for people: no connection, no answer in time, or not HTTP.
    pub(super) async fn post(&mut self, offer: String) -> Result<Reply, String> {
        let target = Arc::clone(&self.target);
        self.request(Method::POST, &target.url.path, Bytes::from(offer))
            .await
    }

    /// DELETEs a resource of the same server.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub(super) async fn delete(&mut self, path: &str) -> Result<Reply, String> {
        self.request(Method::DELETE, path, Bytes::new()).await
    }

    async fn request(&mut self, method: Method, path: &str, body: Bytes) -> Result<Reply, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.target.url.authority);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/sdp");
        }
        if let Some(value) = &self.target.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        match timeout(HTTP_TIMEOUT, self.exchange(request)).await {
            Ok(reply) => reply,
            Err(_) => Err(format!(
                "no answer to a request within {} s",
                HTTP_TIMEOUT.as_secs()
            )),
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let kept = match self.sender.take() {
            // The server may have closed it meanwhile.
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let mut sender = match kept {
            Some(sender) => sender,
            None => connect(&self.target).await?,
        };
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let reply = read(response).await?;
        self.sender = Some(sender);
        Ok(reply)
    }
}

async fn read(response: Response<Incoming>) -> Result<Reply, String> {
    let location = response.headers().get(header::LOCATION);
    let location = location
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok(Reply {
        status,
        location,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

async fn connect(target: &Target) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(target.url.address).await;
    let stream = stream.map_err(|error| format!("{}: {error}", target.url.address))?;
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    match &target.tls {
        None => speak(stream).await,
        Some(tls) => {
            let name = ServerName::try_from(target.url.host.clone());
            let name = name.map_err(|error| error.to_string())?;
            speak(
                tls.connect(name, stream)
                    .await
                    .map_err(|error| error.to_string())?,
            )
            .await
        }
    }
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // Its end shows in the next request.
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_is_split_and_one_that_cannot_be_called_is_refused() {
        let plain = url("http://127.0.0.1:8080/whip?x=1");
        assert_eq!((plain.address.port(), &*plain.path), (8080, "/whip?x=1"));
        assert!(!plain.is_secure);
        let secure = url("https://[::1]/whip");
        assert_eq!((secure.address.port(), &*secure.host), (443, "::1"));
        for (text, word) in [
            ("ftp://127.0.0.1/", "http://"),
            ("127.0.0.1/whip", "http://"),
            ("/whip", "http://"),
            ("http://user:secret@127.0.0.1/", "--token"),
            ("http://", ""),
            ("", ""),
        ] {
            let said = text.parse::<Url>().unwrap_err();
            assert!(said.contains(word), "{text}: {said}");
        }
    }

    #[test]
    fn a_location_is_found_on_the_same_server_only() {
        let base = url("http://127.0.0.1:8080/whip/room?name=x");
        for (location, path) in [
            ("/session/1", Some("/session/1")),
            ("http://127.0.0.1:8080/session/1", Some("/session/1")),
            ("session/1?x", Some("/whip/session/1?x")),
            ("http://127.0.0.1:8081/session/1", None),
            ("https://127.0.0.1:8080/session/1", None),
            ("//elsewhere/session/1", None),
        ] {
            assert_eq!(base.resolve(location).as_deref(), path, "{location}");
        }
    }
}
