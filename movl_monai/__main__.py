"""`python -m movl_monai` runs `movl-monai`."""

import sys

from movl_monai.cli import main

if __name__ == "__main__":
    sys.exit(main())
