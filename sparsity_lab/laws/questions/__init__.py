"""What a law is asked: optimum, gain, inverse questions, the next runs."""
