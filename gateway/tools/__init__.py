"""Tools: from documents and listings (toolsets.py) to what a run sees (catalogue.py) and what goes out (calls.py)."""
