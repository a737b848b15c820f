"""A sandbox to share, so that not every test starts one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from agent.sandbox.pool import Sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(imports=("numpy",), workers=1, unsafe=True) as sandbox:
        yield sandbox
