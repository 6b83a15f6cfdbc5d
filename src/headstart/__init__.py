"""Headstart: which pre-trained start gets speech recognition for my language to a low error rate, and how fast?"""

__version__ = "0.1.0"
