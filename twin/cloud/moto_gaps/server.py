"""The HTTP server of the embedded AWS.

Moto's own server closes every connection, after waiting 10 ms for what the client might still send. This
one reads the request's body before it answers, so it can keep the connection and need not wait.
"""

import io
import socket
from threading import Thread
from typing import TYPE_CHECKING, Final

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

HOST: Final = "127.0.0.1"


class Server:
    """Serves a WSGI application on localhost, one thread a connection, until it is closed."""

    def __init__(self, application: "WSGIApplication", port: int) -> None:
        # Werkzeug ends the process when a port is taken; bound here, it is an OSError.
        with socket.create_server((HOST, port)) as bound:
            self.port: int = bound.getsockname()[1]
            self._server = make_server(
                HOST, port, application, threaded=True, request_handler=_KeepAliveHandler, fd=bound.fileno()
            )
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; connections end when their clients let go of them."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _KeepAliveHandler(MotoRequestHandler):
    """Answers request after request on one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one packet

    def run_wsgi(self) -> None:
        """Answer one request."""
        environ = self.make_environ()
        environ["wsgi.input"] = io.BytesIO(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        response = Response.from_app(self.server.app, environ, buffered=True)
        body = response.get_data()
        self.send_response(response.status_code)
        for name, value in response.headers.items():
            if name.lower() not in ("content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: a replay makes tens of thousands of requests."""
