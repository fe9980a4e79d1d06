"""Training and test tasks over the example tools, made by executing them."""
