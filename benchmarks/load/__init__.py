"""`make load`: what a run costs the gateway, beside two bare loops and a LangGraph server doing the same job.

__main__.py   the command        backend.py    the roles, an OpenAI-compatible model and the tool, scripted
servers.py    starting servers   peers/        what the gateway is compared with
measure.py    asking them        streams.py    many open event streams at once
table.py      printing           memory.py     whether memory stays flat
"""
