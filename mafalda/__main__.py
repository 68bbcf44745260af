"""``python -m mafalda`` is ``mafalda``."""

from mafalda.cli.main import main

main()
