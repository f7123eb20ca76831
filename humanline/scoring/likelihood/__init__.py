"""How likely texts are under a model, token by token, and how natural that makes them."""
