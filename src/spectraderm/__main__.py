"""`python -m spectraderm`: what launchers of several processes start, as in `torchrun -m spectraderm train RUN`."""

from spectraderm.cli.commands import main

main()
