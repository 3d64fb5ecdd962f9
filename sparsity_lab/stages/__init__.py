"""One file a stage: load the spec, call the rooms below, write what came out."""
