//! A service that tells its clients which address they come from, as there are on the internet.

use std::net::SocketAddr;

use hyper::{Method, StatusCode, header::HeaderValue};

use super::http::{Request, Response, text};
use crate::probe::order::{CLIENT_HEADER, POD_HEADER};

/// Answers a request with the client's address and nothing else: no name, no port, no newline.
/// In the headers are, besides, what all of netlab's servers say.
pub(super) fn answer(name: &str, request: &Request, client: SocketAddr) -> Response {
    told(name, request.method(), client)
}

fn told(name: &str, method: &Method, client: SocketAddr) -> Response {
    let ip = client.ip().to_canonical().to_string();
    let mut response = match *method {
        Method::GET | Method::HEAD => text(StatusCode::OK, ip.clone()),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"),
    };
    for (header, value) in [(POD_HEADER, name), (CLIENT_HEADER, &ip)] {
        // A name is a DNS name and an address is an address: both are header values.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(header, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn the_address_and_nothing_else() {
        let client: SocketAddr = ([10, 30, 45, 100], 40000).into();
        let body = |method| {
            let response = told("api.ipify.org", &method, client);
            let status = response.status().as_u16();
            assert_eq!(response.headers()[POD_HEADER], "api.ipify.org");
            let body = futures::executor::block_on(response.into_body().collect()).unwrap();
            (status, body.to_bytes().to_vec())
        };
        assert_eq!(body(Method::GET), (200, b"10.30.45.100".to_vec()));
        assert_eq!(body(Method::POST).0, 405);
    }
}
