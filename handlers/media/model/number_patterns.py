"""Regular expressions for numbers in models of text. They check a line in a tenth of the time that `float` takes.

A number that does not match them may be valid: the line is then read word by word. No text takes more than linear
time, because the quantifiers of characters are possessive, and those of groups have few repetitions or come last.
Groups have no possessive ones, with which Python before 3.11.5 fails to match (its issue 106052).
"""

from typing import Final

BLANKS: Final = rb"[ \t]++"
LINE_END: Final = rb"[ \t]*+\r?+\n"
NUMBER: Final = rb"[-+]?+(?=\.?+[0-9])[0-9]{0,200}+\.?+[0-9]*+(?:[eE](?:-[0-9]{1,3}+|\+?+0?+[0-9]{1,2}+))?"
"""A number that is finite, because of its few digits."""
NATURAL: Final = rb"[0-9]{1,18}+"
INTEGER: Final = rb"[-+]?+" + NATURAL
MAX_LINES: Final = 4096
"""Lines that are matched at once."""
