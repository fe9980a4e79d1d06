"""`make test-compose`: docker-compose.yml, really run."""
