"""Contractions: a channels-last map and what `sampling` made of K RoIs go in, their pooled blocks come out.

A kernel knows neither half pixels nor edges nor files. All write into ``out``, (K, C, PH, PW), which they fill whole.
"""
