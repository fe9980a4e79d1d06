"""The gateway: the REST API, the loop of the three roles, the tools and the run store.

Talks HTTP to the role services and to the tools; never imports torch, vllm, services or training.
"""
