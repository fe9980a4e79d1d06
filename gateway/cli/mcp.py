"""umi mcp: UMi as an MCP server."""

import asyncio

from gateway.cli.common import GatewayUrl


def mcp(gateway: GatewayUrl = "http://127.0.0.1:8000") -> None:
    """Be an MCP server with one tool, `ask`, on standard input and output; the key is taken from UMI_API_KEY."""
    from gateway.cli.remote import serve  # what it imports takes longer than most other commands altogether

    asyncio.run(serve(gateway))
