//! Sending header names with their capital letters. Metadata names are header names, endpoints keep their letters as they
//! come, and the `http` crate folds them to small ones.
//!
//! hyper can write names with capitals, but only by a table that nobody else can make: it comes with an answer that hyper has
//! read while told to keep the case. So such an answer is read here once for each set of names, from memory; no byte of
//! it may ever leave the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Extensions;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Sets of names that are remembered; blobs of one application have the same few.
const MOST_SETS: usize = 256;

/// Tables of names, by the names.
#[derive(Default)]
pub(super) struct HeaderCase {
    known: Mutex<HashMap<Vec<String>, Extensions>>,
}

impl HeaderCase {
    /// What a request needs to be sent with these names. Should it not be had, the request goes with small letters, and the
    /// log says so.
    pub(super) async fn of(&self, names: &[String]) -> Extensions {
        if let Some(found) = self.known().get(names) {
            return found.clone();
        }
        let Some(table) = read_table(names).await else {
            tracing::warn!(?names, "these names are sent in small letters");
            return Extensions::new();
        };
        let mut known = self.known();
        if known.len() >= MOST_SETS {
            known.clear();
        }
        known.insert(names.to_vec(), table.clone());
        table
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Vec<String>, Extensions>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets hyper read an answer with these names from memory. They must be legal header names.
async fn read_table(names: &[String]) -> Option<Extensions> {
    let mut answer = String::from("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n");
    for name in names {
        answer.push_str(name);
        answer.push_str(": x\r\n");
    }
    answer.push_str("\r\n");
    let (near, mut far) = tokio::io::duplex(64 << 10);
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(names.len() + 1)
        .handshake(TokioIo::new(near))
        .await
        .ok()?;
    let ask = async {
        let response = sender.send_request(http::Request::new(Empty::<Bytes>::new())).await.ok()?;
        Some(response.into_parts().0.extensions)
    };
    let serve = async {
        // hyper takes nothing that comes before it has asked.
        far.read_u8().await?;
        far.write_all(answer.as_bytes()).await?;
        std::future::pending::<std::io::Result<()>>().await
    };
    tokio::select! {
        table = ask => table,
        _ = connection => None,
        _ = serve => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_reach_the_wire_with_their_capitals() {
        let names: Vec<String> = (0..150).map(|n| format!("x-ms-meta-Zeta{n}Ab")).collect();
        let case = HeaderCase::default();
        for _ in 0..2 {
            let mut request = http::Request::new(Empty::<Bytes>::new());
            for name in names.iter().map(String::as_str).chain(["x-ms-meta-small"]) {
                request
                    .headers_mut()
                    .insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), "v".parse().unwrap());
            }
            *request.extensions_mut() = case.of(&names).await;
            let (near, mut far) = tokio::io::duplex(64 << 10);
            let (mut sender, connection) = http1::Builder::new().handshake(TokioIo::new(near)).await.unwrap();
            let sent = async {
                let mut sent = Vec::new();
                while !sent.ends_with(b"\r\n\r\n") {
                    far.read_buf(&mut sent).await.unwrap();
                }
                String::from_utf8(sent).unwrap()
            };
            let sent = tokio::select! {
                sent = sent => sent,
                _ = connection => panic!("closed"),
                _ = sender.send_request(request) => panic!("answered"),
            };
            for name in &names {
                assert!(sent.contains(&format!("\r\n{name}: v\r\n")), "{name} in {sent}");
            }
            assert!(sent.contains("\r\nx-ms-meta-small: v\r\n"));
        }
        assert_eq!(case.known().len(), 1);
    }
}
