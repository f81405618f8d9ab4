"""Complete shapes from a few outlined slices, by meta-learned implicit neural representations."""
