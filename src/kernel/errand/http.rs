//! A user's HTTP request with the built-in client.

use std::{net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

use super::{
    super::client::{failure, timed},
    KEPT,
};
use crate::probe::{
    errand::Request,
    order::{Answer, CLIENT_HEADER, Failure, FailureKind, POD_HEADER, Try},
};

/// Over a socket that is not connected yet.
pub(super) async fn once(socket: TcpSocket, to: SocketAddr, request: &Request, limit: Duration) -> Try {
    timed(limit, async {
        let stream = socket.connect(to).await.map_err(|error| failure(&error))?;
        let broken = |error: hyper::Error| Failure { kind: FailureKind::Broken, text: error.to_string() };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let message = message(request)?;
        // Ends with the sender, which is dropped at the end of this try.
        tokio::spawn(connection);
        let response = sender.send_request(message).await.map_err(broken)?;
        let status = response.status().as_u16();
        let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: Vec<(String, String)> =
            response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let find = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let (pod, client) = (find(POD_HEADER), find(CLIENT_HEADER).and_then(|ip| ip.parse().ok()));
        let (mut body, mut bytes) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                // All of it is read, as curl does, and not all of it kept.
                bytes.extend_from_slice(&data[..data.len().min(KEPT - bytes.len())]);
            }
        }
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { status, pod, client, body, headers, ..Answer::default() })
    })
    .await
}

/// What curl sends, less what it says of itself.
fn message(request: &Request) -> Result<hyper::Request<Full<Bytes>>, Failure> {
    let has =
        |name: &header::HeaderName| request.headers.iter().any(|(other, _)| name.as_str().eq_ignore_ascii_case(other));
    let url = request.url();
    let authority = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    // The dot at the end of a name is for resolvers.
    let (host, port) = authority.split_once(':').map_or((authority, ""), |(host, _)| (host, &authority[host.len()..]));
    let host = format!("{}{port}", host.strip_suffix('.').unwrap_or(host));
    let mut message = hyper::Request::builder().method(request.method.as_str()).uri(request.path.as_str());
    for (name, value) in [(header::HOST, host.as_str()), (header::ACCEPT, "*/*"), (header::CONNECTION, "close")] {
        if !has(&name) {
            message = message.header(name, value);
        }
    }
    for (name, value) in &request.headers {
        message = message.header(name, value);
    }
    let body = request.body.clone().unwrap_or_default();
    message
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Failure { kind: FailureKind::Other, text: error.to_string() })
}
