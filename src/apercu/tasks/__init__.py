"""Tasks: one file each, three verbs: fit, call, evaluate."""
