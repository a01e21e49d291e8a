//! kube-proxy's two health endpoints, on each node.
//!
//! | port | path | answer |
//! | --- | --- | --- |
//! | 10256 | any | `200`: the proxy is healthy (a load balancer's check, policy `Cluster`) |
//! | `healthCheckNodePort` | any | `200` if an endpoint of the Service is on this node, `503` if not (policy `Local`) |

use std::convert::Infallible;

use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes, header, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch};

use super::scope::Scope;

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// The proxy itself.
    Proxy,
    /// A Service's endpoints on this node.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// How many of its endpoints are ready, and here.
        local_endpoints: usize,
    },
}

/// The answer about a Service; the names are kube-proxy's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceHealth<'a> {
    service: ServiceName<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Debug, Serialize)]
struct ServiceName<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// The answer about the proxy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyHealth {
    node_eligible: bool,
}

/// Answers every connection with how it is at that time.
pub(super) async fn serve(listener: TcpListener, health: watch::Receiver<Health>, scope: Scope) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = forgotten(health.clone()) => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, or a client that has gone: let others end first.
            tokio::task::yield_now().await;
            continue;
        };
        let health = health.clone();
        scope.spawn(async move {
            let answer = service_fn(|_: Request<hyper::body::Incoming>| {
                let response = answer(&health.borrow());
                async move { Ok::<_, Infallible>(response) }
            });
            // A client that breaks off gets nothing; the server has nobody to tell.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Waits until nobody says any more how it is.
async fn forgotten(mut health: watch::Receiver<Health>) {
    while health.changed().await.is_ok() {}
}

fn answer(health: &Health) -> Response<Full<Bytes>> {
    let (status, body) = match health {
        Health::Proxy => (StatusCode::OK, serde_json::to_vec(&ProxyHealth { node_eligible: true })),
        Health::Service { namespace, name, local_endpoints } => {
            let local_endpoints = *local_endpoints;
            let status = if local_endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let service = ServiceName { namespace, name };
            (status, serde_json::to_vec(&ServiceHealth { service, local_endpoints, service_proxy_healthy: true }))
        }
    };
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if let Health::Service { local_endpoints, .. } = health {
        response = response.header("x-load-balancing-endpoint-weight", *local_endpoints);
    }
    // Plain structs of strings and numbers can always be written down.
    response.body(Full::new(Bytes::from(body.unwrap_or_default()))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn ask(local_endpoints: usize) -> (u16, String) {
        let health = Health::Service { namespace: "default".into(), name: "shop".into(), local_endpoints };
        let response = answer(&health);
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let status = response.status().as_u16();
        let body = futures::executor::block_on(response.into_body().collect()).unwrap();
        (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    #[test]
    fn a_node_without_endpoints_says_so() {
        let body = |count| {
            format!(
                r#"{{"service":{{"namespace":"default","name":"shop"}},"localEndpoints":{count},"serviceProxyHealthy":true}}"#
            )
        };
        assert_eq!(ask(0), (503, body(0)));
        assert_eq!(ask(2), (200, body(2)));
    }
}
