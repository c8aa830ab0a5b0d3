"""`python -m spectraderm`: what launchers of several processes start, as in `torchrun -m spectraderm train RUN`."""

from spectraderm.cli import main

main()
