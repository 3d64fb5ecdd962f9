"""From rows to a minimum: objective, solver, starts, and forms side by side."""
