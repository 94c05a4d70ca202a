"""`python -m movl_monai` is `movl-monai`."""

import sys

from movl_monai.cli import main

sys.exit(main())
