"""From posed C-arm X-rays to a bone volume."""
