"""Recorded trainings that the repository ships, and the home that a demo server makes of them.

``home.tar.xz`` holds event logs, requests and some predictions of real runs; ``pack`` makes it of a home, ``unpack`` writes it
into one, ``place`` gives a server a home of its own. Reads / writes: nothing itself. Never: a home in which somebody trains.
"""
