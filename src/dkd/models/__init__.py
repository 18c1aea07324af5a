"""Models with names and versions, under an artifact root.

    models/<name>/classes.json            the first version's classes; written once
    models/<name>/versions/000001.json    what a version is; written once, never changed
    models/<name>/production/000001.json  which version went into production, the last one counts;
                                          or which was removed, so that it never will

Each object is written by conditional create: of two writers one wins and the other is told, and
what was once written stays. Promotions and removals are numbered together. Whoever adds an entry
has looked at all before it, so that no version that was removed is in production, whoever is killed
when. :mod:`~dkd.models.catalogue` reads and writes them,
:mod:`~dkd.models.version` says what is in them.
"""
