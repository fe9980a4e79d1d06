"""The one way out to tools: where a request may go, what is dialled, how much is read, how often it is tried."""
