"""Regular expressions for numbers in text models. They check a line in a tenth of the time that `float` takes.

A number that does not match may still be valid: the line is then read word by word. Matching takes linear time,
because the quantifiers of characters are possessive, and those of groups have few repetitions or come last. Quantifiers
of groups are not possessive, since Python before 3.11.5 does not match these correctly (CPython issue 106052).
"""

from typing import Final

BLANKS: Final = rb"[ \t]++"
LINE_END: Final = rb"[ \t]*+\r?+\n"
NUMBER: Final = rb"[-+]?+(?=\.?+[0-9])[0-9]{0,200}+\.?+[0-9]*+(?:[eE](?:-[0-9]{1,3}+|\+?+0?+[0-9]{1,2}+))?"
"""A number that is finite as a double: at most 200 digits before the point, and an exponent of at most 99."""
NATURAL: Final = rb"[0-9]{1,18}+"
INTEGER: Final = rb"[-+]?+" + NATURAL
MAX_LINES: Final = 4096
"""Maximum number of lines that one match contains."""
