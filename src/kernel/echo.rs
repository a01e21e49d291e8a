//! The built-in server: the endpoints of Kubernetes' own test image (`agnhost netexec`), and
//! the lesson's two lines on every other path.
//!
//! | HTTP GET | answer |
//! | --- | --- |
//! | `/hostname` | the pod's hostname |
//! | `/clientip` | the client's address and port |
//! | `/echo?msg=TEXT` | the text |
//! | `/healthz` | `200 OK` and `ok`, or the status that it was told |
//! | `/drip?numbytes=N&duration=S` | so many bytes, in so many seconds (httpbin's) |
//! | anything else | `HTTP Server IP address: IP` and `Request path: PATH` |
//!
//! `POST /healthz?code=503` tells all ports of the server what to answer from then on.
//!
//! | datagram | answer |
//! | --- | --- |
//! | `hostname` | the pod's hostname |
//! | `clientip` | the client's address and port |
//! | `echo TEXT` | the text |
//! | anything else | the datagram itself |

use std::{
    convert::Infallible,
    future::{poll_fn, ready},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use http_body_util::{Either, Full, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Frame},
    header,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{datagram::Datagrams, scope::Pair};
use crate::probe::order::{CLIENT_HEADER, POD_HEADER};

/// So long a client may take for its first request, or to go after its last answer, once the server shall end.
const FIRST: Duration = Duration::from_secs(5);

/// One echo server: what it says of itself.
#[derive(Debug, Clone)]
pub(super) struct Echo {
    /// The pod's whole name (`web`, `web.shop`), or the machine's.
    pub(super) name: String,
    /// What it calls itself.
    pub(super) hostname: String,
    /// The status of `/healthz`.
    health: Arc<AtomicU16>,
}

impl Echo {
    /// One that is well.
    pub(super) fn new(name: String, hostname: String) -> Self {
        Echo { name, hostname, health: Arc::new(AtomicU16::new(StatusCode::OK.as_u16())) }
    }

    /// Answers every connection, each on a task of its own, for as long as it is let. Whoever is
    /// waiting when it shall end is still answered.
    pub(super) async fn serve_http(self, listener: TcpListener, pair: Pair) {
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = pair.listeners.ended() => return,
            };
            match accepted {
                Ok((stream, client)) => {
                    pair.last.note();
                    pair.whole.spawn(self.clone().converse(stream, client, pair.clone()));
                }
                // Out of descriptors, or a client that went away before it was accepted:
                // let the open connections end first.
                Err(_) if pair.listeners.has_ended() => return,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    async fn converse(self, stream: TcpStream, client: SocketAddr, pair: Pair) {
        let Ok(here) = stream.local_addr() else { return };
        let has_asked = AtomicBool::new(false);
        let answer = service_fn(|request: Request<hyper::body::Incoming>| {
            has_asked.store(true, Ordering::Relaxed);
            let mut response = match drip(request.uri()) {
                Some(drip) => Response::new(Either::Right(StreamBody::new(drip))),
                None => self.http(&request, here, client).map(Either::Left),
            };
            if pair.kept.has_ended() {
                // The pod is to end: who has more to ask comes by another connection, and so to another pod.
                response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            }
            ready(Ok::<_, Infallible>(response))
        });
        let mut connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        // A client that breaks off, or does not speak HTTP, gets what hyper answers; the
        // server has nobody to tell.
        let over = tokio::select! {
            _ = poll_fn(|cx| connection.poll_without_shutdown(cx)) => true,
            () = pair.listeners.ended() => false,
        };
        // What is not answered yet is still being sent, or waits to be read: the answer ends it. Who says
        // nothing was only looking whether the port is open.
        let over = over
            || (!has_asked.load(Ordering::Relaxed)
                && timeout(FIRST, poll_fn(|cx| connection.poll_without_shutdown(cx))).await.is_ok());
        if !over {
            // A server that shall end answers what it was asked, and says that it was the last time.
            Pin::new(&mut connection).graceful_shutdown();
            let _ = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
        }
        let stream = connection.into_parts().io.into_inner();
        if pair.kept.has_ended() {
            see_out(stream).await;
        }
    }

    /// What is answered at once.
    fn http<B>(&self, request: &Request<B>, here: SocketAddr, client: SocketAddr) -> Response<Full<Bytes>> {
        let target = request.uri();
        let mut status = StatusCode::OK;
        let body = match target.path() {
            "/hostname" => self.hostname.clone(),
            "/clientip" => client.to_string(),
            "/echo" => value(target.query().unwrap_or_default(), "msg").unwrap_or_default(),
            "/healthz" if request.method() == Method::POST => {
                let (told, answer) = self.change_health(target.query().unwrap_or_default());
                status = told;
                answer
            }
            "/healthz" => {
                status = StatusCode::from_u16(self.health.load(Ordering::Relaxed)).unwrap_or(StatusCode::OK);
                if status.is_client_error() || status.is_server_error() { "not ok" } else { "ok" }.to_owned()
            }
            _ => {
                let path = target.path_and_query().map_or("/", |path| path.as_str());
                format!("HTTP Server IP address: {}\nRequest path: {path}\n", here.ip())
            }
        };
        let response = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .header(POD_HEADER, &self.name)
            .header(CLIENT_HEADER, client.ip().to_string());
        // A name is DNS labels and an address is an address: both are header values.
        response.body(Full::new(Bytes::from(body))).unwrap_or_default()
    }

    /// Is told the status that `/healthz` has from now on; what it answers to that.
    fn change_health(&self, query: &str) -> (StatusCode, String) {
        // A status from 100 to 199 is no answer: another one has to follow.
        match value(query, "code").and_then(|code| code.parse().ok()) {
            Some(code @ 200..=599) => {
                self.health.store(code, Ordering::Relaxed);
                (StatusCode::OK, format!("/healthz answers {code} from now on\n"))
            }
            _ => (StatusCode::BAD_REQUEST, "say what to answer, from 200 to 599: POST /healthz?code=503\n".to_owned()),
        }
    }

    /// Answers every datagram.
    pub(super) async fn serve_udp(self, socket: Datagrams) {
        loop {
            let Ok(received) = socket.receive().await else {
                // A port-unreachable that an earlier answer brought back.
                tokio::task::yield_now().await;
                continue;
            };
            let answer = self.udp(&received.bytes, received.from);
            // An answer that cannot be sent is a lost datagram, like any other.
            let _ = socket.answer(&received, &answer).await;
        }
    }

    fn udp(&self, datagram: &[u8], client: SocketAddr) -> Vec<u8> {
        let command = datagram.trim_ascii();
        match command {
            b"hostname" => self.hostname.clone().into_bytes(),
            b"clientip" => client.to_string().into_bytes(),
            WHO_ARE_YOU => format!("{} {}", self.name, client.ip()).into_bytes(),
            _ => command.strip_prefix(b"echo ").unwrap_or(datagram).to_vec(),
        }
    }
}

/// Comes back when a client has got everything, and says so by its own end: with the pod's namespace goes
/// what is still on its way.
async fn see_out(mut stream: TcpStream) {
    let wait = async {
        stream.shutdown().await?;
        while stream.read(&mut [0; 512]).await? > 0 {}
        std::io::Result::Ok(())
    };
    // One that does not end has had its time; one that broke off got what it wanted.
    let _ = timeout(FIRST, wait).await;
}

/// A drip comes so often: twenty times a second.
const DRIP: Duration = Duration::from_millis(50);
/// And gives so many bytes at most.
const DRIPS: usize = 10 << 20;

/// Bytes that come slowly, if that is what was asked for: a download that goes on while a lab changes.
fn drip(target: &Uri) -> Option<impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + use<>> {
    if target.path() != "/drip" {
        return None;
    }
    let query = target.query().unwrap_or_default();
    let asked = |key: &str| form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == key);
    let number = |key, or| asked(key).and_then(|(_, value)| value.parse().ok()).unwrap_or(or);
    let (bytes, seconds) = (number("numbytes", 10).min(DRIPS), number("duration", 2).min(3600));
    let drips = (seconds * 20).max(1);
    // The pace is what is asked for.
    let clock = tokio::time::interval(DRIP);
    let drips = stream::unfold((clock, 0), move |(mut clock, nth)| async move {
        if nth == drips {
            return None;
        }
        clock.tick().await;
        let part = bytes * (nth + 1) / drips - bytes * nth / drips;
        Some((vec![b'*'; part], (clock, nth + 1)))
    });
    Some(drips.map(|part| Ok(Frame::data(Bytes::from(part)))))
}

/// The built-in client's question: answered by the pod's name and the client's address.
pub(super) const WHO_ARE_YOU: &[u8] = b"netlab who";

/// A value in a query, with `%XX` and `+` undone.
fn value(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &str) -> Vec<u8> {
        use http_body_util::BodyExt;
        let echo = Echo::new("pod1a".into(), "first".into());
        let request = Request::builder().uri(path).body(()).unwrap();
        let response = echo.http(&request, ([192, 168, 1, 10], 80).into(), ([10, 0, 0, 1], 5555).into());
        assert_eq!(response.headers()[POD_HEADER], "pod1a");
        assert_eq!(response.headers()[CLIENT_HEADER], "10.0.0.1");
        let body = futures::executor::block_on(response.into_body().collect()).unwrap();
        body.to_bytes().to_vec()
    }

    #[test]
    fn http_answers() {
        assert_eq!(ask("/hostname"), b"first");
        assert_eq!(ask("/clientip"), b"10.0.0.1:5555");
        assert_eq!(ask("/echo?x=1&msg=a+b%21"), b"a b!");
        assert_eq!(ask("/a?b"), b"HTTP Server IP address: 192.168.1.10\nRequest path: /a?b\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_takes_its_time() {
        for (query, bytes, seconds) in [("?numbytes=1001&duration=3", 1001, 3), ("?numbytes=5&duration=0", 5, 0)] {
            let began = tokio::time::Instant::now();
            let target: Uri = format!("/drip{query}").parse().unwrap();
            let parts: Vec<_> = drip(&target).unwrap().collect().await;
            let length: usize = parts.iter().filter_map(|part| Some(part.as_ref().ok()?.data_ref()?.len())).sum();
            assert_eq!((length, began.elapsed().as_secs_f64().round()), (bytes, f64::from(seconds)));
        }
        assert!(drip(&"/dripping".parse().unwrap()).is_none());
    }

    #[test]
    fn it_is_as_well_as_it_is_told() {
        let echo = Echo::new("pod1a".into(), "first".into());
        let ask = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            echo.http(&request, ([192, 168, 1, 10], 80).into(), ([10, 0, 0, 1], 5555).into()).status().as_u16()
        };
        assert_eq!(ask(Method::GET, "/healthz"), 200);
        assert_eq!(ask(Method::POST, "/healthz?code=503"), 200);
        assert_eq!(ask(Method::GET, "/healthz"), 503);
        for bad in ["/healthz", "/healthz?code=", "/healthz?code=101", "/healthz?code=600", "/healthz?code=x"] {
            assert_eq!(ask(Method::POST, bad), 400, "{bad}");
        }
        assert_eq!(ask(Method::GET, "/healthz"), 503);
        assert_eq!(ask(Method::POST, "/healthz?code=200"), 200);
        assert_eq!(ask(Method::GET, "/healthz"), 200);
    }

    #[test]
    fn udp_answers() {
        let echo = Echo::new("pod1a".into(), "first".into());
        let client = ([10, 0, 0, 1], 5555).into();
        assert_eq!(echo.udp(b"hostname\n", client), b"first");
        assert_eq!(echo.udp(b"clientip", client), b"10.0.0.1:5555");
        assert_eq!(echo.udp(b"echo hi", client), b"hi");
        assert_eq!(echo.udp(b"\x00raw ", client), b"\x00raw ");
        assert_eq!(echo.udp(WHO_ARE_YOU, client), b"pod1a 10.0.0.1");
    }
}
