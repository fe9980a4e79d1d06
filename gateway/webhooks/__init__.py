"""Webhooks: whoever asked for it is told that a run has ended. signing.py signs, sending.py sends until it arrives."""
