"""One membership of a room: its placement, what it holds, and the view of the room."""
