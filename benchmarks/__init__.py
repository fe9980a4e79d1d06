"""Measurements that are commands: `make bench-…`. Never run by the tests, since times depend on the machine."""
