"""How a model says which class a text is of: one file a route; they are never mixed."""
