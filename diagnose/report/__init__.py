"""Report writers: each reads a Diagnosis and computes nothing."""
