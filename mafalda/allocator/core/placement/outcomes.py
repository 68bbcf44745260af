"""What became of a candidate in one decision: chosen, or the named reason why another one was chosen.

A candidate that no peer can be placed on has an obstacle instead (``mafalda.allocator.core.fleet.obstacles``).
"""

CHOSEN = "chosen"

# Workers.
ABOVE_WATERMARK = "above-watermark"
LESS_BUSY = "less-busy"
BUSIER = "busier"
ROOM_ELSEWHERE = "room-elsewhere"
FRESH_NOT_NEEDED = "fresh-not-needed"
OTHER_REGION = "other-region"
NOT_DRAWN = "not-drawn"
NOT_PREFERRED = "not-preferred"

# Sources of a relay.
FAN_OUT_FULL = "fan-out-full"
STILL_OPENING = "still-opening"
FARTHER = "farther"
