//! A client that sends what it is told, byte by byte, over connections that stay open. Others put paths and headers right before they send.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::common::Service;
use crate::corpus::Draft;

type Tls = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of a header (its name in lower case); empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body[..self.body.len().min(2_000)]))
    }
}

/// One connection, made when it is needed.
pub(crate) struct Wire {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    token: String,
    tls: Option<Tls>,
}

impl Wire {
    /// A connection of the service's owner.
    pub(crate) fn new(service: &Service) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&service.env.ca_file).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let (address, token) = (service.running.address(), service.token.clone());
        Self { address, config: Arc::new(config), token, tls: None }
    }

    /// Sends a request and reads its answer to the end.
    pub(crate) fn send(&mut self, draft: &Draft) -> Result<Reply, String> {
        let had_one = self.tls.is_some();
        match self.try_send(draft) {
            // A connection that was left open may have been closed meanwhile, before it took anything.
            Err(reason) if had_one && reason.starts_with("closed") => self.try_send(draft),
            other => other,
        }
    }

    fn try_send(&mut self, draft: &Draft) -> Result<Reply, String> {
        let mut tls = match self.tls.take() {
            Some(tls) => tls,
            None => self.connect().map_err(|e| format!("cannot connect: {e}"))?,
        };
        let bytes = draft.bytes(&self.address, &self.token);
        let written = tls.get_mut().write_all(&bytes).and_then(|()| tls.get_mut().flush());
        // Also where not all could be written: what was refused early has its answer nevertheless.
        let reply = read(&mut tls, draft.method == "HEAD")?;
        if written.is_ok() && !reply.header("connection").eq_ignore_ascii_case("close") {
            self.tls = Some(tls);
        }
        Ok(reply)
    }

    fn connect(&self) -> std::io::Result<Tls> {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(self.config.clone(), name).map_err(std::io::Error::other)?;
        let tcp = TcpStream::connect(self.address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(BufReader::new(StreamOwned::new(tls, tcp)))
    }
}

fn read(tls: &mut Tls, is_head: bool) -> Result<Reply, String> {
    let mut line = || -> Result<String, String> {
        let mut bytes = Vec::new();
        tls.read_until(b'\n', &mut bytes).map_err(|e| format!("closed: {e}"))?;
        if bytes.is_empty() {
            return Err("closed".to_owned());
        }
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    let first = line()?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("'{first}' is no status line"))?;
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut reply = Reply { status, headers, body: Vec::new() };
    let length = reply.header("content-length").parse().unwrap_or(0);
    if !is_head {
        reply.body = vec![0; length];
        tls.read_exact(&mut reply.body).map_err(|e| format!("the body ends too early: {e}"))?;
    }
    Ok(reply)
}
