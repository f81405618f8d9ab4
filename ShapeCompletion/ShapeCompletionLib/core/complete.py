"""`complete(context, prior, config)`: slices of a structure become the whole structure. The steps, top to bottom."""
