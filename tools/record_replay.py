"""Write ``NAME.state.json`` beside each given ``NAME.jsonl``: the state that the log folds to.

python tools/record_replay.py tests/replays/v1-story.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mafalda.testing.replays import replay


def main() -> int:
    """Record the state of each log given on the command line."""
    for name in sys.argv[1:]:
        path = Path(name).with_suffix(".state.json")
        path.write_text(json.dumps(replay(Path(name)).to_json_dict(), indent=1) + "\n")
        print(f"wrote {path}")
    return 0 if sys.argv[1:] else 2


if __name__ == "__main__":
    sys.exit(main())
