"""Where trials are kept, who works on them, and how processes share a round."""
