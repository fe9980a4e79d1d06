"""The shared kernel of UMi: what the gateway, the role services and the training package say in common.

Nothing here does I/O beyond reading files it is handed, and nothing here imports torch, vllm or fastapi.
"""
