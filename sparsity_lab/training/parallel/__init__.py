"""One run on several processes: how they find each other, what each holds, and checkpoints of any number of them."""
