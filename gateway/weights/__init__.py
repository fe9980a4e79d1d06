"""Which versions of the roles' weights are served: what the `umi weights` commands and the API do alike.

desk.py        the registry as operators use it: versions, releases, and every change of one
replicas.py    every replica of every role, and what it says that it serves
status.py      the two compared, and what each version has done
"""
