"""Models with names and versions, under an artifact root.

    models/<name>/classes.json            the first version's classes; written once
    models/<name>/versions/000001.json    what a version is; written once, never changed
    models/<name>/production/000001.json  which version went into production; the last one counts
    models/<name>/removed/000001.json     who removed a version; its number is not used again

Each object is written by conditional create: of two writers one wins and the other is told, and
what was once written stays. :mod:`~dkd.models.catalogue` reads and writes them,
:mod:`~dkd.models.version` says what is in them.
"""
