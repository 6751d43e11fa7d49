"""``python -m tisr_scope`` is the ``tisr`` command."""

from tisr_scope.cli import main

main()
