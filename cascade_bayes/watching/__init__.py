"""Has anything changed since the fit? Bets against it, on the log of a running cascade.

`martingale` has the ranks and the bets, `streams` what is watched of each model, and `watch` reads a growing
log, keeps the state, and says what changed.
"""
