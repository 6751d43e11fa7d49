"""Types and array shapes, checked at every call while the tests run."""

from beartype import BeartypeConf, beartype

# An int is a number too, as it is for type checkers (PEP 484).
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
