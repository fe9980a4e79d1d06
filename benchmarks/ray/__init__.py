"""`make test-ray`: deploy/ray, really run on a local cluster of two Ray nodes."""
