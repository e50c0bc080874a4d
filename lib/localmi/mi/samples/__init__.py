"""How much information do samples share: one call, and what it is made of."""
