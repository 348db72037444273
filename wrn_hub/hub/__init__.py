"""Repositories as the Hub keeps them.

A server of a folder of models (store, routes, pages, markdown, serve) and the way to the Hub: a run is staged (stage),
staged models and one's own trainings are published (publish, push), compared and verified file by file (repository).
"""
