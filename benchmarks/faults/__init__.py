"""The fault campaign: ``python -m benchmarks.faults`` breaks everything on purpose and gives an account of what was lost.

A scene gets an empty home, breaks something in it at random moments, and says what it found wrong. After each scene the account
is made up: every epoch that a worker had on disk is in its log and in the results, once; every run and every export has ended.
"""
