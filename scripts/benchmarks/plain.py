"""The command ``mgmtnode``, for a checkout whose commands are not installed."""

from mgmtnode.cli.main import main

if __name__ == "__main__":
    main()
