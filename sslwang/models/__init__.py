"""Encoders, heads and the networks that compare several images."""
