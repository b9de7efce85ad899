"""Faults, one a file: each makes a healthy subject ill on purpose."""
