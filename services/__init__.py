"""The role services: planner, caller and summarizer, each an HTTP service around a vLLM engine."""
