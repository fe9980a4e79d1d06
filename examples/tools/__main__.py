"""Serve the example tools: python -m examples.tools --port 8100."""

import argparse

import uvicorn

from examples.tools.server import create_app


def main() -> None:
    """Serve until interrupted, on the loopback address unless told otherwise."""
    parser = argparse.ArgumentParser(prog="python -m examples.tools", description="Serve the example tools.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8100, help="port to listen on (default: 8100)")
    given = parser.parse_args()
    uvicorn.run(create_app(), host=given.host, port=given.port)


if __name__ == "__main__":
    main()
