"""The command line ``mafalda``: options, connecting, and fleets on one machine."""
