"""``python -m mafalda.dropin``: the same as ``mafalda-worker``."""

from mafalda.dropin.main import main

main()
