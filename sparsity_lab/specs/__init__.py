"""What a user writes: frozen, closed, versioned specs and the values they resolve to."""
