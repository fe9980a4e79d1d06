"""Serve the example tools: python -m examples.tools --port 8100."""

import argparse

import uvicorn

from examples.tools.server import create_app


def main() -> None:
    """Serve on the loopback address until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m examples.tools", description="Serve the example tools.")
    parser.add_argument("--port", type=int, default=8100, help="port on 127.0.0.1 (default: 8100)")
    uvicorn.run(create_app(), host="127.0.0.1", port=parser.parse_args().port)


if __name__ == "__main__":
    main()
