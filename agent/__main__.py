"""`python -P -m agent` is the same as `truegain`."""

import os
import sys

if __name__ == "__main__":
    # Without -P the working directory comes first, where a user's file could take a module's place.
    if not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):
        del sys.path[0]

    from agent.cli.main import main

    main()
