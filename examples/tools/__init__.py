"""Small HTTP tool services over real data, for trying a tool-using agent without a network."""
