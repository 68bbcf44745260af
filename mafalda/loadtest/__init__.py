"""Synthetic publishers and viewers for ``mafalda load-test``: real ICE, DTLS and SRTP, no decoding.

What belongs here: media endpoints whose cost per packet is well below the SFU's, and what they measure. What does not:
a client for applications (``mafalda.client``).
"""
