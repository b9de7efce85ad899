"""What the subjects share: the folder of the tests' own builders on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
