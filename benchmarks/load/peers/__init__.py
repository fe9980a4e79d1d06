"""Servers that do the job without storing it, or with another framework; each runs as `FILE PORT BACKEND_URL`."""
