"""Where the shared real data lies; tests that need it skip with a reason where it is absent."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / "shared" / "data"
STORIES260K = SHARED / "models" / "stories260K"
TINYSTORIES = SHARED / "tinystories"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data beside the project")
