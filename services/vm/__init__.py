"""Virtual machines: their life, their state, and what hosts say of them."""
