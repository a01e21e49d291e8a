//! Serves HTTP: one function from a request and a client to the answer.

use std::{convert::Infallible, net::SocketAddr};

use http_body_util::Full;
use hyper::{StatusCode, body::Bytes, header, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::scope::Scope;

/// A request.
pub(super) type Request = hyper::Request<hyper::body::Incoming>;
/// An answer.
pub(super) type Response = hyper::Response<Full<Bytes>>;

/// Answers every request of every connection, which live in a scope.
pub(super) async fn serve<A>(listener: TcpListener, answer: A, scope: Scope)
where
    A: Fn(&Request, SocketAddr) -> Response + Clone + Send + Sync + 'static,
{
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            // Out of descriptors, or a client that has gone: let others end first.
            tokio::task::yield_now().await;
            continue;
        };
        let answer = answer.clone();
        scope.spawn(async move {
            let answer = service_fn(|request: Request| {
                let response = answer(&request, client);
                async move { Ok::<_, Infallible>(response) }
            });
            // A client that breaks off gets nothing; the server has nobody to tell.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// A plain text.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let response = hyper::Response::builder().status(status).header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
    // Neither of the headers can be malformed.
    response.body(Full::new(body.into())).unwrap_or_default()
}
