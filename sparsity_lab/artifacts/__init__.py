"""What the project writes: names of files, run records, search results, and the store that keeps them."""
