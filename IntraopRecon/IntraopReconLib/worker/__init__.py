"""The process in which reconstructions run."""
