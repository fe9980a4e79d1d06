"""MCP servers as toolsets, through the official client: sessions that are pooled, guarded, limited and reopened.

servers.py    where a server is: a URL behind the guard of egress, or a command of the operator's
exchange.py   what one call may cost, and what became of it
http.py       the client's HTTP, sent through the guard        session.py   one session, in a task of its own
stdio.py      the client's pipes, to a child that is watched   sessions.py  all of them; calls and listings
"""
