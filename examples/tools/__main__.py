"""Serve the example tools: python -m examples.tools --port 8100, or --mcp over standard input and output."""

import argparse
import asyncio

import uvicorn

from examples.tools.mcp import serve_stdio
from examples.tools.server import create_app, create_services


def main() -> None:
    """Serve until interrupted, on the loopback address unless told otherwise, or over pipes until they are closed."""
    parser = argparse.ArgumentParser(prog="python -m examples.tools", description="Serve the example tools.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8100, help="port to listen on (default: 8100)")
    parser.add_argument("--mcp", action="store_true", help="be an MCP server on standard input and output instead")
    given = parser.parse_args()
    if given.mcp:
        asyncio.run(serve_stdio(create_services()))
    else:
        uvicorn.run(create_app(), host=given.host, port=given.port)


if __name__ == "__main__":
    main()
