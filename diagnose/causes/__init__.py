"""Root causes, one a file, named by the ids that are API."""
