"""tinychat: talk to a language model on a microcontroller, or to its twin on the desk.

`Device` is the API; `tinychat` on the command line is its user interface. Neither needs torch or tinyexport.
"""

from .device import BenchRow, Device
from .errors import ChatError
from .reply import Info, Reply, ReplyStats, Token
from .transport import SimOptions

__all__ = ["BenchRow", "ChatError", "Device", "Info", "Reply", "ReplyStats", "SimOptions", "Token"]
