"""The drop-in: a program that mediasoup libraries start as their worker; the fleet does what they request."""
