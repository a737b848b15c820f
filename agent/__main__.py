"""`python -P -m agent` is the same as `truegain`."""

from agent.cli.main import main

if __name__ == "__main__":
    main()
