"""The lab's HTTP server: says which address was asked, and for what.

    python3 http_server.py NAME PORT [PORT ...]

NAME is the pod's, for the header by which `netlab verify` tells the backends apart.
"""

import http.server
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every GET with two lines."""

    protocol_version = "HTTP/1.1"
    name = "?"

    def do_GET(self):
        self.wfile.write(self.answer())

    def do_HEAD(self):
        self.answer()

    def answer(self):
        address = self.connection.getsockname()[0]
        body = f"HTTP Server IP address: {address}\nRequest path: {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Netlab-Pod", self.name)
        self.send_header("X-Netlab-Client", self.client_address[0])
        self.end_headers()
        return body


class Server(http.server.ThreadingHTTPServer):
    """Keeps as many connections waiting as the kernel allows, so that none is refused."""

    request_queue_size = 4096
    daemon_threads = True

    def server_bind(self):
        # HTTPServer would look up the host's own name here, which needs a name server.
        http.server.socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


def main(name, *ports):
    Handler.name = name
    servers = [Server(("", int(port)), Handler) for port in ports]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
