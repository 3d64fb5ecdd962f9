"""What trains runs, wherever that is: one interface, and a module an engine."""
