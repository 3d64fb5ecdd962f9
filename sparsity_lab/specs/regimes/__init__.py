"""How weights become zero: schedule, allocation, score, pattern, method, and a start."""
