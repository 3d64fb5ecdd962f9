"""From trials to an answer: optimum, interval, trend."""
