"""Does it serve, and does it keep serving? Asked of a deployed stack: first pictures, then game days."""
