"""The computation: numpy and torch, no Slicer, no JSON protocol, no printing."""
