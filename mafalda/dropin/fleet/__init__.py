"""The drop-in as a client of the fleet: its sessions, requests and answers."""
