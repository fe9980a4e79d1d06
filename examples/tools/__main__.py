"""Serve the example tools: python -m examples.tools --port 8100, or --mcp over standard input and output."""

import argparse
import asyncio

import uvicorn

from examples.tools.mcp import serve_stdio
from examples.tools.server import create_app, create_services


def main() -> None:
    """Serve on the loopback address until interrupted, or over pipes until they are closed."""
    parser = argparse.ArgumentParser(prog="python -m examples.tools", description="Serve the example tools.")
    parser.add_argument("--port", type=int, default=8100, help="port on 127.0.0.1 (default: 8100)")
    parser.add_argument("--mcp", action="store_true", help="be an MCP server on standard input and output instead")
    arguments = parser.parse_args()
    if arguments.mcp:
        asyncio.run(serve_stdio(create_services()))
    else:
        uvicorn.run(create_app(), host="127.0.0.1", port=arguments.port)


if __name__ == "__main__":
    main()
