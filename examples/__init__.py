"""Examples that use the project; nothing in the package depends on them."""
