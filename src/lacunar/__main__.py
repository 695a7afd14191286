"""Run the command line as ``python -m lacunar``."""

from lacunar.cli import main

if __name__ == "__main__":
    main()
