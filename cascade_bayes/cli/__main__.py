"""``python -m cascade_bayes.cli``."""

from cascade_bayes.cli import main

main()
