"""`python -m sslwang` is the command `sslwang`."""

from sslwang.cli import main

if __name__ == "__main__":
    main()
