"""Credentials: tokens of participants, keys of roles, and the service that turns a token into NATS permissions.

What grants and roles permit is decided in ``mafalda.contract.permissions``; here it is signed, checked and answered.
"""
