"""What the importer makes of 2,639 real API documents: `python -m benchmarks.corpus imports | conformance | recall`."""
