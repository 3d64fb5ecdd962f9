"""What a law form is, and the forms there are."""
