"""Show _build/html on this machine only: ``make serve``."""

import functools
import http.server
import sys

from tools import HTML


def main(port: int = 8000) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(HTML))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError:  # the port is taken: any other
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    print(f"the book is at http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
