"""``python -m cascade_bayes.cli``."""

from cascade_bayes.cli import main

if __name__ == "__main__":
    main()
