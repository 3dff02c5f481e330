"""How a database becomes that of this version, step by step."""
