"""How a loss is minimised: the loop, its steps and what accumulates."""
